"use strict";

// The cards of all samples: order, filters, and which of them the dialog opens.
const Gallery = (() => {
  const FIRST = window.innerWidth < 640 ? 12 : 24; // cards before "show all"
  const element = (id) => document.getElementById(id);
  const samples = index.samples;
  const cards = [];
  let all = false; // whether "show all" was pressed
  let order = []; // numbers of the samples that pass the filters, in their order

  const byText = (a, b) => a.localeCompare(b, "en", { numeric: true });
  const ORDERS = {
    worst: () => 0, // the page holds them in this order
    score: (a, b) => b.score - a.score,
    name: (a, b) => byText(a.stem, b.stem) || byText(a.defect, b.defect),
    defect: (a, b) => byText(a.defect, b.defect) || byText(a.stem, b.stem),
    time: (a, b) => b.seconds - a.seconds,
  };

  function makeCard(sample, number) {
    const name = Sample.nameOf(sample);
    const facts = Report.make(
      "span",
      { class: "facts" },
      Sample.badge(sample.verdict),
      Report.make("span", {}, Sample.score(sample.score)),
    );
    const title = Report.make("span", { class: "title", title: name }, name);
    const text = Report.make("span", { class: "text" }, title, facts);
    const image = Report.make("img", { alt: "", width: 224, height: 224 });
    const label = [name, sample.verdict, `score ${Sample.score(sample.score)}`].filter(Boolean).join(", ");
    const button = Report.make("button", { type: "button", class: "card", "aria-label": label }, image, text);
    button.addEventListener("click", () => open(number));
    const item = Report.make("li", { "data-number": number }, button);
    return item;
  }

  // Thumbnails are read when their card comes near the window.
  const watcher = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        if (isIntersecting) {
          target.querySelector("img").src = Report.data(`thumbnail-${target.dataset.number}`);
          watcher.unobserve(target);
        }
      }
    },
    { rootMargin: "400px" },
  );

  function passes(sample) {
    const [defect, verdict] = [element("by-defect").value, element("by-verdict").value];
    const text = element("by-text").value.trim().toLowerCase();
    return (
      (!defect || sample.defect === defect) &&
      (!verdict || sample.verdict === verdict) &&
      Sample.nameOf(sample).toLowerCase().includes(text)
    );
  }

  function update() {
    const compare = ORDERS[element("order").value];
    order = samples.map((_, number) => number).filter((number) => passes(samples[number]));
    order.sort((a, b) => compare(samples[a], samples[b]) || a - b);
    const visible = all ? order : order.slice(0, FIRST);
    element("gallery").replaceChildren(...visible.map((number) => cards[number]));
    element("shown").textContent = `${order.length} of ${samples.length}`;
    element("more").hidden = visible.length === order.length;
    element("more").textContent = `Show all ${order.length}`;
  }

  // The order of the cards; of all samples where a filter hides the one that is shown.
  function neighboursOf(number) {
    return () => (order.includes(number) ? order : samples.map((_, i) => i));
  }

  function open(number) {
    Sample.open(number, neighboursOf(number), (last) => {
      if (!cards[last].isConnected && order.includes(last)) {
        all = true;
        update();
      }
      (cards[last].isConnected ? cards[last].firstChild : element("order")).focus();
    });
  }

  function openFromAddress() {
    const number = samples.findIndex((sample) => Sample.hashOf(sample) === location.hash);
    if (number >= 0) {
      open(number);
    }
  }

  function fill(id, values) {
    const present = [...new Set(values.filter(Boolean))].sort(byText);
    element(id).append(...present.map((value) => Report.make("option", { value }, value)));
  }

  function start() {
    cards.push(...samples.map(makeCard));
    cards.forEach((card) => watcher.observe(card));
    fill("by-defect", samples.map((sample) => sample.defect));
    fill("by-verdict", samples.map((sample) => sample.verdict));
    for (const id of ["order", "by-defect", "by-verdict", "by-text"]) {
      element(id).addEventListener("input", update);
    }
    element("more").addEventListener("click", () => {
      all = true;
      update();
      cards[order[FIRST]].firstChild.focus();
    });
    window.addEventListener("hashchange", openFromAddress);
    update();
    Report.whenReady(openFromAddress);
  }

  start();
  return { open };
})();
