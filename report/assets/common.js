"use strict";

// What all pages share: the theme, reading the page's data, making elements, plots that follow theme and width.
const Report = (() => {
  const root = document.documentElement;
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const listeners = [];
  const { nonce } = document.currentScript;
  let waiting = []; // for Plotly; null once it is there
  let chosen = null; // "light" or "dark" once the button was pressed

  function theme() {
    return chosen ?? (system.matches ? "dark" : "light");
  }

  function applyTheme() {
    root.dataset.theme = theme();
    const button = document.getElementById("theme");
    if (button) {
      button.textContent = theme() === "dark" ? "Light" : "Dark";
      button.setAttribute("aria-label", `Change to the ${button.textContent.toLowerCase()} theme`);
      button.setAttribute("aria-pressed", String(theme() === "dark"));
    }
    listeners.forEach((listener) => listener());
  }

  function startTheme() {
    system.addEventListener("change", applyTheme);
    document.addEventListener("DOMContentLoaded", () => {
      document.getElementById("theme").addEventListener("click", () => {
        chosen = theme() === "dark" ? "light" : "dark";
        applyTheme();
      });
      applyTheme();
    });
    applyTheme();
  }

  // Calls `listener` after each change of the theme.
  function onTheme(listener) {
    listeners.push(listener);
  }

  // A colour of style.css in the present theme: colour("accent") is --accent.
  function colour(name) {
    return getComputedStyle(root).getPropertyValue(`--${name}`).trim();
  }

  // Eight colours for the traces of a plot in the present theme.
  function series() {
    return [1, 2, 3, 4, 5, 6, 7, 8].map((i) => colour(`series-${i}`));
  }

  // The content of <script type="application/json" id=...>.
  function data(id) {
    return JSON.parse(document.getElementById(id).textContent);
  }

  // Calls `action` once the whole page, Plotly included, is there.
  function whenReady(action) {
    if (waiting) {
      waiting.push(action);
    } else {
      action();
    }
  }

  // Plotly stands in the page as text: to run it takes longer than all the rest, and would keep the first view back.
  function startPlotly() {
    const script = document.createElement("script");
    script.nonce = nonce;
    script.textContent = document.getElementById("plotly").textContent;
    document.head.append(script);
    const actions = waiting;
    waiting = null;
    actions.forEach((action) => action());
  }

  function startWhenPainted() {
    document.addEventListener("DOMContentLoaded", () => {
      requestAnimationFrame(() => setTimeout(startPlotly));
    });
  }

  // An element: make("p", {class: "note", "aria-label": "…"}, "text", child, …). Text is never read as markup.
  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value !== null && value !== undefined && value !== false) {
        element.setAttribute(name, value === true ? "" : String(value));
      }
    }
    element.append(...children);
    return element;
  }

  // A figure as tables show it; null, an undefined one, is "-".
  function figure(value, decimals = 3) {
    return value === null || value === undefined ? "-" : value.toFixed(decimals);
  }

  // The layout that all plots have; what a plot wants otherwise replaces it, axis by axis.
  function layoutWith(wanted) {
    const axis = {
      gridcolor: colour("line"),
      linecolor: colour("line-strong"),
      zerolinecolor: colour("line-strong"),
      automargin: true,
      title: { standoff: 8, font: { size: 13 } },
    };
    const layout = {
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: colour("text") },
      colorway: series(),
      margin: { l: 50, r: 12, t: 12, b: 44 },
      legend: { orientation: "h", y: -0.24, x: 0, font: { size: 12 } },
      hoverlabel: {
        bgcolor: colour("surface"),
        bordercolor: colour("line-strong"),
        font: { color: colour("text"), family: getComputedStyle(document.body).fontFamily },
      },
      uirevision: "same",
      ...wanted,
    };
    for (const name of ["xaxis", "yaxis", ...Object.keys(wanted).filter((key) => /^[xy]axis\d/.test(key))]) {
      layout[name] = { ...axis, ...wanted[name], title: { ...axis.title, ...wanted[name]?.title } };
    }
    return layout;
  }

  // Draws a plot into `host`, an element with a height, and again after each change of the theme; it follows the width.
  // `build` returns {traces, layout} in the present colours. Returns a function that draws it anew.
  function plot(host, build, config = {}) {
    const draw = () => {
      const { traces, layout } = build();
      return Plotly.react(host, traces, layoutWith(layout), { responsive: true, displaylogo: false, ...config });
    };
    const drawWhenReady = () => whenReady(draw);
    drawWhenReady();
    onTheme(drawWhenReady);
    return drawWhenReady;
  }

  startTheme();
  startWhenPainted();
  return { colour, data, figure, make, onTheme, plot, series, theme, whenReady };
})();
