"use strict";

// What the comparison shows. An entry is a row: a run, or runs that differ in their seed only; see comparison.py.
const Comparison = (() => {
  const { figure, make } = Report;
  const DATA = Report.data("comparison");
  const GLYPHS = ["●", "■", "◆", "▲", "▼", "★", "✚", "✖"];
  const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "triangle-down", "star", "cross", "x"];
  const state = {
    seeds: false, // each seed by itself
    hidden: new Set(), // indices of runs that are switched off
    published: true,
    metric: 0,
    defectMetric: 0,
    speedMetric: 0,
    className: DATA.classes[0],
    sort: { column: null, descending: true }, // of the means; -1 is the column of names
  };

  const byId = (id) => document.getElementById(id);

  // A value of an object from the page's data, null where it has none: keys are names of folders, "constructor" too.
  const own = (object, key) => (Object.hasOwn(object, key) ? object[key] : null);

  function entries() {
    return state.seeds ? DATA.single : DATA.grouped;
  }

  function isShown(entry) {
    return entry.members.some((run) => !state.hidden.has(run));
  }

  function shown() {
    return entries().filter(isShown);
  }

  function setShown(entry, on) {
    entry.members.forEach((run) => (on ? state.hidden.delete(run) : state.hidden.add(run)));
  }

  // One metric of a spread over seeds, by its index; both figures are null where there is no spread.
  function pick(spread, metric) {
    return { mean: spread?.mean[metric] ?? null, deviation: spread?.deviation[metric] ?? null };
  }

  function ofClass(entry, name, metric) {
    return pick(own(entry.classes, name), metric);
  }

  // Classes of some of the entries, in the order of the page.
  function classesOf(chosen) {
    return DATA.classes.filter((name) => chosen.some((entry) => own(entry.classes, name)));
  }

  // Classes that an entry is without, or that only some of its seeds have.
  function missing(entry, classes) {
    return classes.filter((name) => !own(entry.classes, name) || entry.partial.includes(name));
  }

  // Published methods that give the chosen metric; none where they are switched off.
  function published() {
    return state.published ? DATA.published.filter((method) => own(method.figures, DATA.metrics[state.metric])) : [];
  }

  // The chosen metric of a published method for a class, its mean without one; null where it was not published.
  function publishedFigure(method, name = null) {
    const figures = method.figures[DATA.metrics[state.metric]];
    return (name === null ? figures.at(-1) : figures[method.classes.indexOf(name)]) ?? null;
  }

  function publishedLabel(method) {
    const benchmarks = new Set(DATA.published.map((other) => other.benchmark));
    const mark = method.marks[DATA.metrics[state.metric]];
    const label = mark === "read" ? method.label : `${method.label} (${mark})`;
    return benchmarks.size > 1 ? `${label}, ${method.benchmark}` : label;
  }

  // The classes of the runs that are shown and, beside published figures, the others of their benchmarks.
  function rowClasses() {
    return [...new Set([...classesOf(shown()), ...published().flatMap((method) => method.classes)])];
  }

  // Groups of seeds have a colour each, every eighth the same with another symbol; single seeds differ by symbol.
  function look(entry) {
    const symbol = (Math.floor(entry.group / 8) + (state.seeds ? entry.place : 0)) % GLYPHS.length;
    return { series: `series-${(entry.group % 8) + 1}`, glyph: GLYPHS[symbol], symbol: SYMBOLS[symbol] };
  }

  function glyph(entry) {
    const { series, glyph: sign } = look(entry);
    const element = make("span", { class: "glyph", "aria-hidden": "true" }, sign);
    element.style.setProperty("color", `var(--${series})`);
    return element;
  }

  // Symbol and name of an entry.
  function named(entry) {
    return make("span", { class: "run" }, glyph(entry), make("span", {}, entry.label));
  }

  // "0.951 ± 0.003" as children of an element.
  function plusMinus({ mean, deviation }) {
    return deviation === null ? [figure(mean)] : [figure(mean), small(` ± ${figure(deviation)}`)];
  }

  function small(text) {
    return make("span", { class: "deviation" }, text);
  }

  function note(text) {
    return make("p", { class: "note" }, text);
  }

  return {
    DATA, byId, classesOf, entries, glyph, isShown, look, missing, named, note, ofClass, own, pick, plusMinus, published,
    publishedFigure, publishedLabel, rowClasses, setShown, shown, small, state,
  };
})();
