import { GRID, label, line, rect, svg } from "./svg.ts";

/** Something that happened in one load/put round trip. */
export interface TimelineEvent {
  readonly kind: "load" | "put" | "prepare" | "wrmsr" | "rdmsr" | "entry" | "exit" | "user";
  readonly text: string;
}

const COLOURS: Readonly<Record<TimelineEvent["kind"], string>> = {
  load: "#455a64",
  put: "#455a64",
  prepare: "#455a64",
  wrmsr: "#d81b60",
  rdmsr: "#fbc02d",
  entry: "#2e7d32",
  exit: "#1565c0",
  user: "#546e7a",
};
const LANES = ["user space", "KVM", "guest"] as const;
const LEFT = 90;
const STEP = 86;
const LANE = 44;

function lane(kind: TimelineEvent["kind"]): number {
  return kind === "user" ? 0 : kind === "entry" ? 2 : 1;
}

/** Order, not time: each step of the trip in the lane where it happens. Long trips are cut in the middle. */
export function timeline(title: string, all: readonly TimelineEvent[], most = 12): string {
  const cut = all.length > most;
  const events = cut ? [...all.slice(0, most - 4), ...all.slice(-4)] : all;
  const top = 26;
  const height = top + LANES.length * LANE + 8;
  const lanes = LANES.map(
    (name, i) =>
      label(LEFT - 10, top + i * LANE + 24, name, "end") +
      line(LEFT, top + i * LANE + 20, LEFT + events.length * STEP, top + i * LANE + 20, GRID),
  );
  const steps = events.map(({ kind, text }, i) => {
    const [x, y] = [LEFT + i * STEP, top + lane(kind) * LANE + 9];
    const [first = "", second = ""] = text.split("\n");
    const ink = kind === "rdmsr" ? "#212121" : "#fff";
    const gap = cut && i === most - 4 ? label(x - 4, top - 6, `${all.length - most} more steps`, "middle") : "";
    return (
      gap +
      rect(x + 2, y - 4, STEP - 4, 32, COLOURS[kind], text.replace("\n", " ")) +
      label(x + STEP / 2, y + 9, first, "middle", { fill: ink, "font-size": 10 }) +
      label(x + STEP / 2, y + 21, second, "middle", { fill: ink, "font-size": 10 })
    );
  });
  const content = label(LEFT, 14, title, "start", { "font-weight": "bold" }) + lanes.join("") + steps.join("");
  return svg(LEFT + most * STEP + 10, height, `one load/put round trip: ${title}`, content);
}
