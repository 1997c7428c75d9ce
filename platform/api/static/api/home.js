// The home's figures come anew every few seconds, and its charts with them.
document.addEventListener("htmx:beforeSwap", () => {
  for (const chart of Object.values(Chart.instances)) chart.destroy();
});
document.addEventListener("htmx:afterSwap", () => renderCharts());
