// Draws a chart from the table that says the same: without scripts the table is all there is.
"use strict";
addEventListener("DOMContentLoaded", () => {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  for (const place of document.querySelectorAll("[data-chart]")) {
    const table = document.getElementById(place.dataset.chart);
    const rows = [...table.tBodies[0].rows];
    const numbers = (column) =>
      rows.map((row) => row.cells[column]?.querySelector("data")).map((found) => (found ? Number(found.value) : null));
    const canvas = document.createElement("canvas");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${table.dataset.now} and ${table.dataset.before} by day; the table below says the same`);
    place.append(canvas);
    place.hidden = false;
    const grid = { color: colour("--line") };
    const ticks = { color: colour("--soft") };
    new Chart(canvas, {
      data: {
        labels: rows.map((row) => row.cells[0].textContent.trim().slice(-2)),
        datasets: [
          { type: "bar", label: table.dataset.now, data: numbers(1), backgroundColor: colour("--bar") },
          { type: "line", label: table.dataset.before, data: numbers(3), borderColor: colour("--bar-before"), backgroundColor: colour("--bar-before"), pointRadius: 2 },
        ],
      },
      options: {
        animation: false,
        maintainAspectRatio: false,
        scales: { x: { grid, ticks }, y: { grid, ticks, beginAtZero: true } },
        plugins: { legend: { labels: { color: colour("--ink") } } },
      },
    });
  }
});
