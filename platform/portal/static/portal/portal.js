// What the tenants' pages do where there is JavaScript: charts, buttons that copy, the playground's
// calls, and a question before what cannot be undone.
"use strict";

const COLOURS = ["#0d9488", "#dc2626", "#6366f1", "#d97706", "#db2777", "#0284c7"];
const LONGEST = 25; // characters of a name below a chart

function draw(canvas) {
  const told = JSON.parse(canvas.dataset.chart);
  const style = getComputedStyle(document.documentElement);
  const text = style.getPropertyValue("--faint").trim();
  const line = style.getPropertyValue("--line").trim();
  function short(value) {
    const label = this.getLabelForValue(value);
    return label.length > LONGEST ? `${label.slice(0, LONGEST - 1)}…` : label;
  }
  const level = told.type === "line" ? { maxRotation: 0, autoSkipPadding: 16 } : {};
  const axis = (title, ticks = level) => ({
    title: { display: true, text: title, color: text },
    ticks: { color: text, ...ticks },
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
      scales: { x: axis(told.x, { ...level, callback: short }), y: { ...axis(told.y, { precision: 0 }), beginAtZero: true } },
      plugins: { legend: { position: "bottom", labels: { color: text, boxWidth: 12 } } },
    },
  });
}

const PLACE = "YOUR_TEST_KEY";

// The code samples carry the key that stands in the playground's field, as soon as it is one.
function fillIn(root) {
  const field = document.querySelector("#key");
  if (!field) return;
  const key = field.value.trim();
  for (const code of root.querySelectorAll("code[data-sample]")) {
    code.dataset.plain ??= code.textContent;
    code.textContent = code.dataset.plain.replaceAll(PLACE, /^pb_test_\w+$/.test(key) ? key : PLACE);
  }
}

function enliven(root) {
  if (window.Chart) {
    for (const canvas of root.querySelectorAll("canvas[data-chart]")) {
      if (!Chart.getChart(canvas)) draw(canvas);
    }
  }
  for (const button of root.querySelectorAll("[data-copy], [data-send]")) button.hidden = false;
  for (const button of root.querySelectorAll("[data-plain]")) button.hidden = true;
  fillIn(root);
}

async function copy(button) {
  await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
  button.textContent = "Copied";
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-copy]");
  if (button) copy(button);
});
document.addEventListener("input", (event) => {
  if (event.target.id === "key") fillIn(document);
});
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.matches("form[data-playground]")) {
    event.preventDefault();
    send(form);
  } else if (form.dataset.sure && !window.confirm(form.dataset.sure)) {
    event.preventDefault();
  }
});
document.addEventListener("htmx:afterSettle", () => enliven(document));

enliven(document);
document.querySelector("nav [aria-current=page]")?.scrollIntoView({ inline: "center", block: "nearest" });

// The playground: the form's call is sent from here.
function asked(form) {
  const body = form.querySelector("[data-body]");
  if (body) return { url: form.dataset.path, body: body.value };
  const isQuery = form.dataset.method === "GET";
  const parameters = isQuery ? new URLSearchParams() : new FormData();
  for (const field of form.querySelectorAll("[data-parameter]")) {
    if (field.value === "") continue;
    parameters.append(field.name, field.files ? field.files[0] : field.value);
  }
  if (isQuery) return { url: `${form.dataset.path}?${parameters}`, body: null };
  return { url: form.dataset.path, body: parameters };
}

async function send(form) {
  const panel = document.querySelector("[data-answer]");
  const status = panel.querySelector("[data-status]");
  const text = panel.querySelector("[data-text]");
  const field = document.querySelector("#key");
  const key = field.value.trim();
  panel.hidden = false;
  text.textContent = "";
  if (!/^pb_test_\w+$/.test(key)) {
    status.textContent = "Put a test key in first: it begins with pb_test_.";
    field.focus();
    return;
  }
  status.textContent = "…";
  const { url, body } = asked(form);
  const begun = performance.now();
  const headers = { Authorization: `Bearer ${key}` };
  if (typeof body === "string") headers["Content-Type"] = "application/json";
  try {
    const answer = await fetch(url, { method: form.dataset.method, headers, body });
    const told = await read(answer);
    const took = Math.round(performance.now() - begun);
    status.textContent = `${answer.status}, ${took} ms, request ${answer.headers.get("X-Request-Id")}`;
    text.textContent = told;
  } catch (error) {
    status.textContent = `Not sent: ${error.message}. See whether you are online, and send it again.`;
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
