"""The plots: Altair's charts as SVG that stands in the page, in the page's own colours, light or dark."""
