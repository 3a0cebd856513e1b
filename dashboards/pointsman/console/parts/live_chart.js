// Lines over time in a ring of fixed size. Drawn at most once a frame, and not at all while nobody can see it.
import { echarts } from "nicegui-echart";

export default {
  template: "<div></div>",
  props: { lines: Array, look: Object, unit: String, points: Number, gap: Number, past: Array },
  mounted() {
    this.data = this.lines.map(() => []);
    this.last = 0;
    this.planned = false;
    for (const [at, ...values] of this.past) this.keep(at, values);
    this.watcher = new ResizeObserver(() => (this.chart ? this.chart.resize() : this.begin()));
    this.watcher.observe(this.$el);
    this.seen = () => this.draw();
    document.addEventListener("visibilitychange", this.seen);
  },
  unmounted() {
    this.watcher?.disconnect();
    document.removeEventListener("visibilitychange", this.seen);
    this.chart?.dispose();
  },
  methods: {
    begin() {
      if (!this.$el.offsetWidth) return;
      const { text, dim, line, strong, surface, font } = this.look;
      const unit = this.unit;
      this.chart = echarts.init(this.$el, null, { renderer: "canvas" });
      this.chart.setOption({
        animation: false,
        useUTC: true,
        textStyle: { fontFamily: font, color: dim, fontSize: 11 },
        grid: { left: 4, right: 24, top: 12, bottom: 4, containLabel: true },
        tooltip: {
          trigger: "axis",
          confine: true,
          backgroundColor: surface,
          borderColor: strong,
          textStyle: { color: text, fontSize: 12 },
          valueFormatter: (v) => (v == null ? "–" : Number(v.toPrecision(4)).toLocaleString("en") + unit),
        },
        xAxis: {
          type: "time",
          axisLabel: { color: dim, fontSize: 11, hideOverlap: true },
          axisLine: { lineStyle: { color: strong } },
          axisTick: { show: false },
          splitLine: { show: false },
          ...this.span(),
        },
        yAxis: {
          type: "value",
          min: 0,
          splitNumber: 3,
          axisLabel: { color: dim, fontSize: 11 },
          splitLine: { lineStyle: { color: line } },
        },
        series: this.lines.map(({ name, colour }, place) => ({
          type: "line",
          name,
          data: this.data[place],
          showSymbol: false,
          sampling: "lttb",
          lineStyle: { width: 1.6, color: colour },
          itemStyle: { color: colour },
          areaStyle: { color: colour, opacity: 0.1 },
        })),
      });
    },
    keep(at, values) {
      if (at <= this.last) return;
      const broken = this.last && at - this.last > this.gap;
      this.data.forEach((line, place) => {
        if (broken) line.push([(this.last + 0.1) * 1000, null]);
        line.push([at * 1000, values[place]]);
        const oldest = (at - this.points) * 1000;
        let over = Math.max(0, line.length - this.points);
        while (over < line.length && line[over][0] < oldest) over += 1;
        if (over) line.splice(0, over);
      });
      this.last = at;
    },
    push(at, values) {
      if (!this.data) return;
      this.keep(at, values);
      this.draw();
    },
    draw() {
      if (this.planned || document.hidden || !this.chart) return;
      this.planned = true;
      requestAnimationFrame(() => {
        this.planned = false;
        this.chart?.setOption({ xAxis: this.span(), series: this.data.map((data) => ({ data })) }, { lazyUpdate: true });
      });
    },
    span() {
      const last = (this.last || Date.now() / 1000) * 1000;
      return { min: Math.min(this.data[0][0]?.[0] ?? last, last - 120000), max: last };
    },
    size() {
      return this.data.map((line) => line.length);
    },
  },
};
