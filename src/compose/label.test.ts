import { expect, test } from "vitest";
import { compareLabels, parseLabel } from "./label.ts";

test("a label is a milestone and two numbers", () => {
  expect(parseLabel("RC-1.14")).toEqual({ text: "RC-1.14", name: "RC", version: "1.14", dated: false, early: false });
  expect(parseLabel("Beta-1.2")).toMatchObject({ name: "Beta", early: true });
  expect(parseLabel("RC-20190611.0")).toMatchObject({ dated: true, early: false });
});

test.each(["RC", "RC-1", "Final-1.2", "rc-1.2", "RC-1.2.3", ""])("%j is refused", (text) => {
  expect(() => parseLabel(text)).toThrow(expect.objectContaining({ code: "invalid" }));
});

test("labels are ordered by milestone, then by number", () => {
  const ordered = [
    "EA-9.9",
    "Alpha-1.1",
    "Beta-1.2",
    "Beta-1.10",
    "Snapshot-1.0",
    "RC-1.1",
    "Update-1.0",
    "SecurityFix-1.0",
  ];
  const shuffled = [...ordered].reverse().map(parseLabel).sort(compareLabels);
  expect(shuffled.map((label) => label.text)).toEqual(ordered);
});
