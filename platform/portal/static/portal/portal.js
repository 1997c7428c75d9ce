// What the tenants' pages do where there is JavaScript: charts, and buttons that copy.
"use strict";

const COLOURS = ["#0d9488", "#dc2626", "#6366f1", "#d97706", "#db2777", "#0284c7"];

function draw(canvas) {
  const told = JSON.parse(canvas.dataset.chart);
  const style = getComputedStyle(document.documentElement);
  const text = style.getPropertyValue("--faint").trim();
  const line = style.getPropertyValue("--line").trim();
  const axis = (title) => ({
    title: { display: true, text: title, color: text },
    ticks: { color: text },
    grid: { color: line },
  });
  new Chart(canvas, {
    type: told.type,
    data: {
      labels: told.labels,
      datasets: told.series.map((series, n) => ({
        ...series,
        borderColor: COLOURS[n % COLOURS.length],
        backgroundColor: COLOURS[n % COLOURS.length],
      })),
    },
    options: {
      animation: false,
      responsive: true,
      maintainAspectRatio: false,
      scales: { x: axis(told.x), y: { ...axis(told.y), beginAtZero: true } },
      plugins: { legend: { position: "bottom", labels: { color: text, boxWidth: 12 } } },
    },
  });
}

function enliven(root) {
  if (window.Chart) {
    for (const canvas of root.querySelectorAll("canvas[data-chart]")) {
      if (!Chart.getChart(canvas)) draw(canvas);
    }
  }
  for (const button of root.querySelectorAll("button[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
      button.textContent = "Copied";
    });
  }
}

enliven(document);
document.addEventListener("htmx:afterSettle", () => enliven(document));
