"use strict";

// The dialog that shows one sample: its pictures, and its point cloud to be turned.
const index = Report.data("index");

const Sample = (() => {
  const PICTURES = [
    { key: "rgb", name: "RGB" },
    { key: "mask", name: "Ground truth" },
    { key: "depth", name: "Depth (m)", colours: "depth" },
    { key: "map_2d", name: "Ψ 2D, colour", colours: "heat" },
    { key: "map_3d", name: "Ψ 3D, shape", colours: "heat" },
    { key: "combined", name: "Combined", colours: "heat" },
  ];
  const dialog = document.getElementById("sample");
  const element = (id) => document.getElementById(id);
  const state = { number: null, view: null, neighbours: () => [], onClose: () => {}, zoomed: true, by: "combined", camera: null };

  function nameOf(sample) {
    return `${sample.defect}/${sample.stem}`;
  }

  // Three digits; those of usual size keep their zeros, so that columns of them align.
  function score(value) {
    const usual = value === 0 || (Math.abs(value) >= 0.001 && Math.abs(value) < 1000);
    return usual ? value.toPrecision(3) : String(Number(value.toPrecision(3)));
  }

  function hashOf(sample) {
    return `#${encodeURIComponent(sample.defect)}/${encodeURIComponent(sample.stem)}`;
  }

  // "false alarm" with its mark and colour, as an element; an empty text without a threshold.
  function badge(verdict) {
    return verdict ? Report.make("span", { class: `verdict ${verdict.replace(" ", "-")}` }, verdict) : "";
  }

  // Pictures

  function gradient(name) {
    return `linear-gradient(to right, ${index.colours[name].map((rgb) => `rgb(${rgb.join(" ")})`).join(", ")})`;
  }

  function mark(kind, ends) {
    const value = index.thresholds[kind];
    const share = value === null ? -1 : (value - ends[0]) / (ends[1] - ends[0]);
    if (share < 0 || share > 1) {
      return "";
    }
    const title = kind === "image" ? `image threshold ${score(value)}` : `map threshold ${score(value)}`;
    const line = Report.make("span", { class: `mark ${kind}`, title });
    line.style.left = `${100 * share}%`;
    return line;
  }

  function bar(picture) {
    const ends = picture.key === "depth" ? state.view.depth_ends : index.scale[picture.key];
    const scale = Report.make("div", { class: "scale" });
    scale.style.background = gradient(picture.colours);
    if (picture.key === "combined") {
      scale.append(mark("image", ends), mark("map", ends));
    }
    const digits = picture.key === "depth" ? (end) => end.toFixed(3) : score;
    const labels = ends.map((end) => Report.make("span", {}, digits(end)));
    return [scale, Report.make("div", { class: "ends" }, ...labels), picture.key === "combined" ? marksInWords() : ""];
  }

  function marksInWords() {
    const { image, map } = index.thresholds;
    const text = `thresholds: │ image ${score(image ?? 0)}, ┊ map ${score(map ?? 0)}`;
    return image === null ? "" : Report.make("div", { class: "marks" }, text);
  }

  function frame(image) {
    const [width, height] = state.view.size;
    const [left, top, side] = state.zoomed ? state.view.window : [0, 0, Math.max(width, height)];
    image.style.width = `${(100 * width) / side}%`;
    image.style.left = `${(-100 * left) / side}%`;
    image.style.top = `${(-100 * top) / side}%`;
    image.style.imageRendering = side < width / 4 ? "pixelated" : "auto";
  }

  function showPictures() {
    const figures = PICTURES.filter(({ key }) => state.view[key]).map((picture) => {
      const alt = `${picture.name} of ${nameOf(index.samples[state.number])}`;
      const image = Report.make("img", { src: state.view[picture.key], alt, "data-picture": picture.key });
      frame(image);
      const caption = Report.make("figcaption", { class: "picture-name" }, picture.name);
      const scale = picture.colours ? bar(picture) : [];
      return Report.make("figure", {}, caption, Report.make("div", { class: "frame" }, image), ...scale);
    });
    element("pictures").replaceChildren(...figures);
  }

  // Point cloud

  function decode(cloud) {
    const bytes = Uint8Array.from(atob(cloud.points), (character) => character.charCodeAt(0));
    const whole = new Uint16Array(bytes.buffer);
    const points = [];
    for (let i = 0; i < whole.length; i += 4) {
      const [x, y, z] = [0, 1, 2].map((axis) => cloud.low[axis] + cloud.step * whole[i + axis]);
      points.push({ x, y, z, pixel: whole[i + 3] });
    }
    return points;
  }

  // The colours that a picture of the sample has at the points.
  async function coloursOf(points, key) {
    const image = new Image();
    image.src = state.view[key];
    await image.decode();
    const canvas = Report.make("canvas", { width: image.width, height: image.height });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    const pixels = context.getImageData(0, 0, image.width, image.height).data;
    return points.map(({ pixel }) => `rgb(${pixels.slice(4 * pixel, 4 * pixel + 3).join()})`);
  }

  function extent(values) {
    const low = values.reduce((a, b) => Math.min(a, b), Infinity);
    const high = values.reduce((a, b) => Math.max(a, b), -Infinity);
    return { middle: (low + high) / 2, range: high - low };
  }

  // The camera looks along z with y down; Plotly's third axis points up. So that the first view is that of the photo,
  // a point (x, y, z) goes to (x, z, -y), and one looks at it from the camera's side.
  function scene(axes, largest) {
    const middle = axes.map((axis) => axis.middle);
    const distance = Math.hypot(...middle) || 1;
    const side = (axis) => ({
      visible: false,
      range: [axis.middle - largest / 2, axis.middle + largest / 2],
    });
    return {
      xaxis: side(axes[0]),
      yaxis: side(axes[1]),
      zaxis: side(axes[2]),
      aspectmode: "cube",
      dragmode: "orbit",
      camera: {
        eye: Object.fromEntries(["x", "y", "z"].map((name, i) => [name, (-1.35 * middle[i]) / distance])),
        center: { x: 0, y: 0, z: 0 },
        up: { x: 0, y: 0, z: 1 },
      },
    };
  }

  // Turns the view by steps around the vertical axis and towards the top; without steps, back to the photo's.
  function turn(steps) {
    const host = element("cloud");
    const { eye } = host.layout.scene.camera;
    const distance = Math.hypot(eye.x, eye.y, eye.z);
    const around = Math.atan2(eye.y, eye.x) + ((steps[0] ?? 0) * Math.PI) / 9;
    const upwards = Math.asin(eye.z / distance) + ((steps[1] ?? 0) * Math.PI) / 9;
    const height = Math.max(-1.5, Math.min(1.5, upwards)); // short of the poles, where left and right flip
    const turned = {
      x: distance * Math.cos(height) * Math.cos(around),
      y: distance * Math.cos(height) * Math.sin(around),
      z: distance * Math.sin(height),
    };
    Plotly.relayout(host, { "scene.camera": { ...state.camera, eye: steps.length ? turned : state.camera.eye } });
  }

  async function showCloud() {
    const { number, view, by } = state;
    const host = element("cloud");
    if (number === null) {
      return; // closed before Plotly was there
    }
    for (const button of element("cloud-colours").children) {
      button.setAttribute("aria-pressed", String(button.dataset.by === by));
      button.disabled = !view.cloud;
    }
    if (!view.cloud) {
      Plotly.purge(host);
      element("cloud-turn").hidden = true;
      element("cloud-note").textContent = "This sample has no valid point.";
      return;
    }
    element("cloud-turn").hidden = false;
    host.setAttribute("aria-busy", "true");
    const points = decode(view.cloud);
    const colours = await coloursOf(points, by);
    if (state.number !== number || state.by !== by) {
      return; // something else was chosen meanwhile
    }
    const across = [points.map((p) => p.x), points.map((p) => p.z), points.map((p) => -p.y)];
    const axes = across.map(extent);
    const largest = Math.max(...axes.map((axis) => axis.range)) || 1;
    const apart = Math.max(...axes.map((axis) => axis.range)) / Math.sqrt(points.length);
    const size = Math.min(6, Math.max(2, (1.1 * host.clientWidth * apart) / largest));
    const trace = {
      type: "scatter3d",
      mode: "markers",
      x: across[0],
      y: across[1],
      z: across[2],
      hoverinfo: "skip",
      marker: { size, color: colours, line: { width: 0 } },
    };
    const layout = {
      margin: { l: 0, r: 0, t: 0, b: 0 },
      paper_bgcolor: "rgba(0,0,0,0)",
      scene: scene(axes, largest),
      uirevision: nameOf(index.samples[number]),
    };
    state.camera = layout.scene.camera;
    await Plotly.react(host, [trace], layout, { responsive: true, displayModeBar: false });
    host.setAttribute("aria-busy", "false");
    const lengths = [axes[0], axes[2], axes[1]].map((axis) => (1000 * axis.range).toFixed(0));
    element("cloud-note").textContent = `${points.length} points, ${lengths.join(" × ")} mm (width, height, depth). Drag to turn.`;
  }

  // The dialog

  function facts(sample) {
    const texts = [`score ${score(sample.score)}`];
    if (index.thresholds.image !== null) {
      texts.push(`threshold ${score(index.thresholds.image)}`);
    }
    if (sample.image_score !== sample.score) {
      texts.push(`image score ${score(sample.image_score)}`);
    }
    texts.push(`${score(1000 * sample.seconds)} ms`);
    return texts.join(" · ");
  }

  function show(number) {
    const sample = index.samples[number];
    state.number = number;
    state.view = Report.data(`view-${number}`);
    element("sample-title").replaceChildren(nameOf(sample), " ", badge(sample.verdict));
    element("sample-facts").textContent = facts(sample);
    history.replaceState(null, "", hashOf(sample));
    showPictures();
    if (!dialog.open) {
      dialog.showModal();
      element("sample-title").focus();
    }
    const order = state.neighbours();
    element("previous").disabled = order.indexOf(number) <= 0;
    element("next").disabled = order.indexOf(number) >= order.length - 1;
    Report.whenReady(showCloud);
  }

  // Opens a sample. `neighbours` returns the numbers of the samples in their present order.
  function open(number, neighbours, onClose) {
    Object.assign(state, { neighbours, onClose });
    if (element(`view-${number}`)) {
      show(number);
    } else {
      Report.whenReady(() => show(number)); // the page is still being read
    }
  }

  function step(by) {
    const order = state.neighbours();
    const place = order.indexOf(state.number) + by;
    if (place >= 0 && place < order.length) {
      show(order[place]);
    }
  }

  function onClosed() {
    const { number } = state;
    state.number = null;
    history.replaceState(null, "", location.pathname + location.search);
    state.onClose(number);
  }

  function onKey(event) {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by && !event.altKey && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      step(by);
    }
  }

  function zoom(zoomed) {
    state.zoomed = zoomed;
    for (const button of element("zoom").children) {
      button.setAttribute("aria-pressed", String((button.dataset.zoomed === "yes") === zoomed));
    }
    element("pictures").querySelectorAll("img").forEach(frame);
  }

  function start() {
    dialog.addEventListener("close", onClosed);
    dialog.addEventListener("keydown", onKey);
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
    element("close").addEventListener("click", () => dialog.close());
    element("previous").addEventListener("click", () => step(-1));
    element("next").addEventListener("click", () => step(1));
    for (const button of element("zoom").children) {
      button.addEventListener("click", () => zoom(button.dataset.zoomed === "yes"));
    }
    zoom(true);
    for (const button of element("cloud-turn").children) {
      button.addEventListener("click", () => turn(button.dataset.turn.split(" ").filter(Boolean).map(Number)));
    }
    for (const button of element("cloud-colours").children) {
      button.addEventListener("click", () => {
        state.by = button.dataset.by;
        Report.whenReady(showCloud);
      });
    }
  }

  start();
  return { badge, hashOf, nameOf, open, score };
})();
