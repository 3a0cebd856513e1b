// The tracks, their sleepers and the trains on them, in SVG; laid anew where the width changes.
const SVG = "http://www.w3.org/2000/svg";
const MOST_TRAINS = 48;
const MOST_A_SECOND = 6;

const draw = (name, attributes, parent) => {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  parent?.append(element);
  return element;
};

const track = (parent, path, colour) => {
  const line = (width, stroke, extra = {}) =>
    draw("path", { d: path, fill: "none", "stroke-width": width, style: `stroke: ${stroke}`, ...extra }, parent);
  const sleepers = { "stroke-dasharray": "2.5 9.5" };
  line(17, "var(--line-strong)", sleepers);
  line(10, colour);
  line(5.5, "var(--surface)");
  line(5.5, "var(--line-strong)", sleepers);
};

export default {
  template: '<div role="img" :aria-label="words"></div>',
  props: { think: Object, nothink: Object },
  computed: {
    words() {
      const said = ({ rate, note }) => `${rate.toFixed(1)} requests a second, ${note}`;
      return `Two tracks. Think: ${said(this.think)}. No think: ${said(this.nothink)}.`;
    },
  },
  mounted() {
    this.trains = [];
    this.debt = { think: 0, nothink: 0 };
    this.still = window.matchMedia("(prefers-reduced-motion: reduce)");
    this.watcher = new ResizeObserver(() => this.lay());
    this.watcher.observe(this.$el);
    this.alive = true;
    this.before = performance.now();
    const step = (now) => {
      if (!this.alive) return;
      this.move(Math.min((now - this.before) / 1000, 0.1));
      this.before = now;
      requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  },
  unmounted() {
    this.alive = false;
    this.watcher.disconnect();
  },
  watch: {
    think() {
      this.write();
    },
    nothink() {
      this.write();
    },
  },
  methods: {
    lay() {
      const width = this.$el.clientWidth;
      if (!width || width === this.width) return;
      this.width = width;
      const height = this.$el.clientHeight;
      const upper = 54;
      const lower = height - 14;
      const points = Math.round(Math.max(width * 0.16, 60));
      const bend = Math.min(220, width * 0.32);
      const end = width - 6;
      const straight = `M6 ${lower} H${end}`;
      const turned = `M6 ${lower} H${points} C${points + bend / 2} ${lower} ${points + bend / 2} ${upper} ${points + bend} ${upper} H${end}`;
      this.$el.replaceChildren();
      const svg = draw("svg", { width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" }, this.$el);
      track(svg, `M${points} ${lower} H${end}`, "var(--no-think)");
      track(svg, turned.replace(`M6 ${lower} H${points}`, `M${points} ${lower}`), "var(--think)");
      track(svg, `M6 ${lower} H${points + 3}`, "var(--faint)");
      this.paths = {
        think: draw("path", { d: turned, fill: "none" }, svg),
        nothink: draw("path", { d: straight, fill: "none" }, svg),
      };
      this.lengths = { think: this.paths.think.getTotalLength(), nothink: this.paths.nothink.getTotalLength() };
      this.stage = draw("g", {}, svg);
      this.trains = [];
      const right = { x: end, "text-anchor": "end" };
      this.texts = {
        all: draw("text", { x: 6, y: lower - 20, class: "pm-strong" }, svg),
        think: draw("text", { ...right, y: upper - 34, class: "pm-strong" }, svg),
        thinkNote: draw("text", { ...right, y: upper - 18 }, svg),
        nothink: draw("text", { ...right, y: lower - 34, class: "pm-strong" }, svg),
        nothinkNote: draw("text", { ...right, y: lower - 18 }, svg),
      };
      this.write();
    },
    write() {
      if (!this.texts) return;
      const rate = (value) => (value >= 100 ? value.toFixed(0) : value.toFixed(1));
      this.texts.all.textContent = `${rate(this.think.rate + this.nothink.rate)}/s`;
      this.texts.think.textContent = `think ${rate(this.think.rate)}/s`;
      this.texts.thinkNote.textContent = this.think.note;
      this.texts.nothink.textContent = `no think ${rate(this.nothink.rate)}/s`;
      this.texts.nothinkNote.textContent = this.nothink.note;
    },
    move(seconds) {
      if (!this.stage || this.still.matches) return;
      for (const name of ["think", "nothink"]) {
        const { rate, seconds: takes } = this[name];
        this.debt[name] = Math.min(this.debt[name] + Math.min(rate, MOST_A_SECOND) * seconds, 2);
        while (this.debt[name] >= 1) {
          this.debt[name] -= 1;
          if (this.trains.length >= MOST_TRAINS) break;
          const train = draw("rect", { x: -11, y: -4.5, width: 22, height: 9, rx: 4.5 }, this.stage);
          train.style.fill = name === "think" ? "var(--think)" : "var(--no-think)";
          train.style.stroke = "var(--surface)";
          this.trains.push({ name, train, at: 0, lasts: Math.min(Math.max(takes, 1.2), 9) });
        }
      }
      this.trains = this.trains.filter((one) => {
        one.at += (seconds / one.lasts) * this.lengths[one.name];
        if (one.at >= this.lengths[one.name]) {
          one.train.remove();
          return false;
        }
        const here = this.paths[one.name].getPointAtLength(one.at);
        const next = this.paths[one.name].getPointAtLength(Math.min(one.at + 2, this.lengths[one.name]));
        const angle = (Math.atan2(next.y - here.y, next.x - here.x) * 180) / Math.PI;
        one.train.setAttribute("transform", `translate(${here.x} ${here.y}) rotate(${angle})`);
        return true;
      });
    },
  },
};
