// Root and non-root operation as an oscilloscope shows a signal: the line is high in the guest, low in KVM, lowest in user space.
import type { ExitSummary } from "../session/protocol.ts";
import { number } from "./dom.ts";

const COLUMN = 30;
const LEFT = 84;
const GUEST = 22;
const KVM = 50;
const USER = 78;
const PHYSICAL = 108;
const VIRTUAL = 134;
const STEP = 12;
const HEIGHT = 156;

interface Palette {
  readonly line: string;
  readonly muted: string;
  readonly text: string;
  readonly guest: string;
  readonly exit: string;
  readonly user: string;
  readonly write: string;
  readonly virtual: string;
  readonly select: string;
  readonly font: string;
}

export class Timeline {
  readonly element: HTMLElement;
  /** Name of what runs in root operation. */
  hypervisor = "KVM";
  readonly #canvas = document.createElement("canvas");
  readonly #spacer = document.createElement("div");
  #exits: readonly ExitSummary[] = [];
  #selected = -1;
  #now: { inGuest: boolean | undefined; physical: number; virtual: number } = {
    inGuest: false,
    physical: 0,
    virtual: 0,
  };
  #palette: Palette | undefined;

  constructor(select: (id: number) => void) {
    this.element = document.createElement("div");
    this.element.className = "timeline";
    this.element.tabIndex = 0;
    this.element.setAttribute("role", "img");
    this.#spacer.className = "timeline-spacer";
    this.element.append(this.#canvas, this.#spacer);
    this.element.addEventListener("scroll", () => this.draw());
    new ResizeObserver(() => this.draw()).observe(this.element);
    this.element.addEventListener("click", (event) => {
      const at = Math.floor(
        (event.offsetX + this.element.scrollLeft * Number(event.target === this.#canvas) - LEFT) / COLUMN,
      );
      const exit = this.#exits[at];
      if (exit) select(exit.id);
    });
    this.element.addEventListener("keydown", (event) => {
      const move = event.key === "ArrowLeft" ? -1 : event.key === "ArrowRight" ? 1 : 0;
      if (move === 0) return;
      event.preventDefault();
      const at = this.#exits.findIndex(({ id }) => id === this.#selected);
      const exit = this.#exits[at < 0 ? (move < 0 ? this.#exits.length - 1 : 0) : at + move];
      if (exit) select(exit.id);
    });
  }

  /** Colours are asked anew after a change of the theme. */
  recolour(): void {
    this.#palette = undefined;
    this.draw();
  }

  show(
    exits: readonly ExitSummary[],
    now: { inGuest: boolean | undefined; physical: number; virtual: number },
    follow: boolean,
  ): void {
    this.#exits = exits;
    this.#now = now;
    this.#spacer.style.width = `${LEFT + (exits.length + 1) * COLUMN}px`;
    this.element.setAttribute(
      "aria-label",
      `Timeline of ${exits.length} VM exits; the table beside it has the same in text`,
    );
    if (follow) this.element.scrollLeft = this.element.scrollWidth;
    this.draw();
  }

  select(id: number, scroll: boolean): void {
    this.#selected = id;
    const at = this.#exits.findIndex((exit) => exit.id === id);
    if (scroll && at >= 0) {
      const x = LEFT + at * COLUMN;
      const { scrollLeft, clientWidth } = this.element;
      if (x < scrollLeft + LEFT || x > scrollLeft + clientWidth - 2 * COLUMN)
        this.element.scrollLeft = x - clientWidth / 2;
    }
    this.draw();
  }

  #colours(): Palette {
    const style = getComputedStyle(this.element);
    // light-dark() is resolved only where a property uses it
    const probe = document.createElement("i");
    this.element.append(probe);
    const of = (name: string): string => {
      probe.style.color = `var(${name})`;
      return getComputedStyle(probe).color;
    };
    this.#palette ??= {
      ...{ line: of("--line"), muted: of("--muted"), text: of("--text"), guest: of("--guest"), exit: of("--exit") },
      ...{
        user: of("--user"),
        write: of("--write"),
        virtual: of("--virtual"),
        select: of("--select"),
        font: style.fontFamily,
      },
    };
    probe.remove();
    return this.#palette;
  }

  draw(): void {
    const { clientWidth: width, scrollLeft } = this.element;
    if (width === 0) return;
    const colours = this.#palette ?? this.#colours();
    const ratio = devicePixelRatio;
    const canvas = this.#canvas;
    if (canvas.width !== Math.round(width * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(HEIGHT * ratio);
      canvas.style.width = `${width}px`;
      canvas.style.height = `${HEIGHT}px`;
    }
    const c = canvas.getContext("2d")!;
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    c.clearRect(0, 0, width, HEIGHT);
    c.save();
    c.beginPath();
    c.rect(LEFT, 0, width - LEFT, HEIGHT);
    c.clip();
    c.translate(-scrollLeft, 0);
    const first = Math.max(0, Math.floor((scrollLeft - LEFT) / COLUMN) - 1);
    const last = Math.min(this.#exits.length - 1, Math.ceil((scrollLeft + width - LEFT) / COLUMN));
    for (let i = first; i <= last; i++) this.#column(c, i, colours);
    this.#presence(c, colours);
    c.restore();
    this.#labels(c, colours, width);
  }

  #line(
    c: CanvasRenderingContext2D,
    points: readonly (readonly [number, number])[],
    colour: string,
    width: number,
  ): void {
    c.beginPath();
    for (const [i, [x, y]] of points.entries()) i === 0 ? c.moveTo(x, y) : c.lineTo(x, y);
    c.strokeStyle = colour;
    c.lineWidth = width;
    c.stroke();
  }

  #column(c: CanvasRenderingContext2D, i: number, colours: Palette): void {
    const exit = this.#exits[i]!;
    const before = this.#exits[i - 1];
    const x = LEFT + i * COLUMN;
    const mid = x + COLUMN * 0.55;
    const end = x + COLUMN;
    if (exit.id === this.#selected) {
      c.fillStyle = colours.select;
      c.fillRect(x, 0, COLUMN, HEIGHT);
    }
    if (before && before.id !== exit.id - 1) {
      c.fillStyle = colours.muted;
      c.fillRect(x - 1, 6, 2, HEIGHT - 12);
    }
    // in the guest, out by the exit, perhaps on to user space, and back
    const down = exit.userSpace ? USER : KVM;
    this.#line(
      c,
      [
        [x, GUEST],
        [mid, GUEST],
      ],
      colours.guest,
      3,
    );
    this.#line(
      c,
      [
        [mid, GUEST],
        [mid, down],
      ],
      colours.exit,
      1.5,
    );
    this.#line(
      c,
      [
        [mid, down],
        [end, down],
      ],
      exit.userSpace ? colours.user : colours.exit,
      3,
    );
    this.#line(
      c,
      [
        [end, down],
        [end, GUEST],
      ],
      colours.line,
      1.5,
    );
    if (exit.writes > 0) {
      c.fillStyle = colours.write;
      for (let k = 0; k < Math.min(exit.writes, 3); k++) c.fillRect(mid + 2 + k * 4, PHYSICAL + STEP + 5, 2, 5);
    }
    if (exit.injected) {
      c.fillStyle = colours.virtual;
      c.beginPath();
      c.arc(mid + 6, KVM - 9, 3, 0, 7);
      c.fill();
    }
    const span = exit.to - exit.from;
    c.fillStyle = colours.muted;
    c.font = `10px ${colours.font}`;
    c.textAlign = "center";
    if (span < 10_000)
      c.fillText(span < 1000 ? String(span) : `${Math.round(span / 1000)}k`, x + COLUMN * 0.3, GUEST - 7);
    for (const [y, key, colour] of [
      [PHYSICAL, "physical", colours.exit],
      [VIRTUAL, "virtual", colours.virtual],
    ] as const) {
      const level = (value: number): number => y + STEP - Math.min(value, 1) * STEP;
      if (before && before[key] !== exit[key])
        this.#line(
          c,
          [
            [x, level(before[key])],
            [x, level(exit[key])],
          ],
          colour,
          2,
        );
      this.#line(
        c,
        [
          [x, level(exit[key])],
          [end, level(exit[key])],
        ],
        colour,
        2,
      );
    }
  }

  /** Where the processor stands now. */
  #presence(c: CanvasRenderingContext2D, colours: Palette): void {
    if (this.#now.inGuest === undefined) return;
    const x = LEFT + this.#exits.length * COLUMN;
    const y = this.#now.inGuest ? GUEST : this.#exits.at(-1)?.userSpace ? USER : KVM;
    if (this.#now.inGuest)
      this.#line(
        c,
        [
          [x, y],
          [x + COLUMN * 0.5, y],
        ],
        colours.guest,
        3,
      );
    if (this.#now.inGuest) {
      for (const [at, value, colour] of [
        [PHYSICAL, this.#now.physical, colours.exit],
        [VIRTUAL, this.#now.virtual, colours.virtual],
      ] as const) {
        const level = at + STEP - Math.min(value, 1) * STEP;
        this.#line(
          c,
          [
            [x, level],
            [x + COLUMN * 0.5, level],
          ],
          colour,
          2,
        );
      }
    }
    c.fillStyle = this.#now.inGuest ? colours.guest : colours.exit;
    c.beginPath();
    c.arc(x + COLUMN * (this.#now.inGuest ? 0.5 : 0), y, 4.5, 0, 7);
    c.fill();
  }

  #labels(c: CanvasRenderingContext2D, colours: Palette, width: number): void {
    c.font = `11px ${colours.font}`;
    c.textAlign = "left";
    c.fillStyle = colours.text;
    for (const [text, y] of [
      ["guest", GUEST],
      [this.hypervisor, KVM],
      [this.hypervisor === "KVM" ? "user space" : "", USER],
      ["0x140 CPU", PHYSICAL + STEP / 2],
      ["0x140 guest", VIRTUAL + STEP / 2],
    ] as const) {
      c.fillText(text, 4, y + 4);
    }
    this.#line(
      c,
      [
        [LEFT - 4, 4],
        [LEFT - 4, HEIGHT - 6],
      ],
      colours.line,
      1,
    );
    this.#line(
      c,
      [
        [0, 95],
        [width, 95],
      ],
      colours.line,
      1,
    );
  }
}

/** For the table: how long the guest ran. */
export const spanText = ({ from, to }: ExitSummary): string => number(to - from);
