// Ring-0 guests against what QEMU and Bochs answered (fixtures/ring0, record.mjs), on both tiers.
import { describe, expect, it } from "vitest";
import { answersOf, DIFFERENCES, differenceOf, disagree, expectedOf, GUESTS, runRing0 } from "./ring0.ts";

describe.each(GUESTS)("$name", (guest) => {
  const answers = answersOf(guest.name);
  const tiers = { interpreter: runRing0(guest, false), "generated code": runRing0(guest, 1) };

  it("every case in which QEMU and Bochs differ is decided", () => {
    const differ = answers.filter(disagree).map((answer) => answer.case);
    expect(differ.filter((name) => differenceOf(guest.name, name) === undefined)).toEqual([]);
    const listed = DIFFERENCES.filter((one) => one.guest === guest.name).flatMap((one) =>
      one.right === "neither" ? [] : one.cases,
    );
    expect(listed.filter((name) => !differ.includes(name))).toEqual([]);
  });

  it.each(Object.entries(tiers))("%s: no other case than those recorded", (_tier, cases) => {
    expect([...cases.keys()]).toEqual(answers.map((answer) => answer.case));
  });

  it.each(answers)("$case", (answer) => {
    const expected = expectedOf(guest.name, answer);
    for (const [tier, cases] of Object.entries(tiers)) expect(cases.get(answer.case), tier).toEqual(expected);
  });
});
