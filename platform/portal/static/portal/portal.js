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
      locale: told.locale,
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

// The playground: the form's call is sent from here.
const form = document.querySelector("form[data-playground]");

function asked() {
  const bodyField = form.querySelector("[data-body]");
  if (bodyField) return { url: form.dataset.path, body: bodyField.value };
  const isQuery = form.dataset.method === "GET";
  const parameters = isQuery ? new URLSearchParams() : new FormData();
  for (const field of form.querySelectorAll("[data-parameter]")) {
    if (field.value === "") continue;
    parameters.append(field.dataset.parameter, field.files ? field.files[0] : field.value);
  }
  if (isQuery) return { url: `${form.dataset.path}?${parameters}`, body: null };
  return { url: form.dataset.path, body: parameters };
}

async function send(event) {
  event.preventDefault();
  const { url, body } = asked();
  const panel = document.querySelector("[data-answer]");
  const status = panel.querySelector("[data-status]");
  const text = panel.querySelector("[data-text]");
  panel.hidden = false;
  status.textContent = "…";
  text.textContent = "";
  const begun = performance.now();
  const headers = { Authorization: `Bearer ${form.querySelector("#key").value.trim()}` };
  if (typeof body === "string") headers["Content-Type"] = "application/json";
  try {
    const answer = await fetch(url, { method: form.dataset.method, headers, body });
    const told = await read(answer);
    const took = Math.round(performance.now() - begun);
    status.textContent = `${answer.status}, ${took} ms, request ${answer.headers.get("X-Request-Id")}`;
    text.textContent = told;
  } catch (error) {
    status.textContent = `Not sent: ${error.message}`;
  }
}

async function read(answer) {
  const kind = answer.headers.get("Content-Type") || "";
  if (!kind.startsWith("audio/")) return pretty(await answer.text());
  return `${(await answer.blob()).size} bytes of ${kind}`;
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

if (form) {
  form.querySelector("[data-send]").hidden = false;
  form.addEventListener("submit", send);
}
