"""What a Raspberry Pi 5 printed (captured by the owner of leukipp/touchkio, issue 35), and what others print."""

import pytest

from edgekd.device.errors import CheckFailed
from edgekd.device.sensors.pi5_pmic import board_power_w

_PRINTED = """ 3V7_WL_SW_A current(0)=0.12199130A
   3V3_SYS_A current(1)=0.15224510A
   1V8_SYS_A current(2)=0.17273960A
  DDR_VDD2_A current(3)=0.11613570A
  DDR_VDDQ_A current(4)=0.02941200A
   1V1_SYS_A current(5)=0.21763240A
    0V8_SW_A current(6)=0.50748360A
  VDD_CORE_A current(7)=1.54489000A
   3V3_DAC_A current(17)=0.00000000A
   3V3_ADC_A current(18)=0.00018315A
   0V8_AON_A current(16)=0.00390720A
      HDMI_A current(22)=0.01709400A
 3V7_WL_SW_V volt(8)=3.60605200V
   3V3_SYS_V volt(9)=3.31931300V
   1V8_SYS_V volt(10)=1.79682400V
  DDR_VDD2_V volt(11)=1.10842400V
  DDR_VDDQ_V volt(12)=0.60549390V
   1V1_SYS_V volt(13)=1.10219700V
    0V8_SW_V volt(14)=0.80146440V
  VDD_CORE_V volt(15)=0.88725180V
   3V3_DAC_V volt(20)=3.31501500V
   3V3_ADC_V volt(21)=3.31684600V
   0V8_AON_V volt(19)=0.79882700V
      HDMI_V volt(23)=4.90440000V
     EXT5V_V volt(24)=4.87894000V
      BATT_V volt(25)=2.50512600V
"""


def test_rails_with_a_current_add_up_and_are_corrected() -> None:
    rails = (  # amperes and volts, without the two that have no current
        *((0.12199, 3.60605), (0.15225, 3.31931), (0.17274, 1.79682), (0.11614, 1.10842), (0.02941, 0.60549)),
        *((0.21763, 1.10220), (0.50748, 0.80146), (1.54489, 0.88725), (0.00018, 3.31685), (0.00391, 0.79883)),
        (0.01709, 4.90440),
    )
    by_hand = 1.1451 * sum(amperes * volts for amperes, volts in rails) + 0.5879
    assert board_power_w(_PRINTED) == pytest.approx(by_hand, rel=1e-4)
    assert 4.5 < by_hand < 5.0


@pytest.mark.parametrize("output", ["", 'error=1 error_msg="Command not registered"', "EXT5V_V volt(24)=5.1V"])
def test_another_board_has_no_figure(output: str) -> None:
    with pytest.raises(CheckFailed, match="only the Raspberry Pi 5 does"):
        board_power_w(output)
