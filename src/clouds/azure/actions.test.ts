import { expect, test } from "vitest";
import { AZURE_ACTIONS, missingActions } from "./actions.ts";

const control = AZURE_ACTIONS.filter((one) => one.plane === "control").map((one) => one.action);
const data = AZURE_ACTIONS.filter((one) => one.plane === "data").map((one) => one.action);
const lacking = (...permissions: Parameters<typeof missingActions>[0]) =>
  missingActions(permissions).map((one) => one.action);

test("the role we print lacks nothing, nor does an owner with blob rights", () => {
  expect(lacking({ actions: control, dataActions: data })).toEqual([]);
  expect(lacking({ actions: ["*"] }, { dataActions: ["microsoft.storage/*/blobs/*"] })).toEqual([]);
});

test("a control action grants no data action", () => {
  expect(lacking({ actions: ["*"] })).toEqual(data);
});

test("an exclusion counts, unless another entry grants the same", () => {
  const excluded = {
    actions: ["*"],
    notActions: ["Microsoft.Compute/galleries/images/versions/write"],
    dataActions: ["*"],
  };
  expect(lacking(excluded)).toEqual(["Microsoft.Compute/galleries/images/versions/write"]);
  expect(lacking(excluded, { actions: ["Microsoft.Compute/galleries/*/write"] })).toEqual([]);
});

test("a dot is a dot and a name is whole", () => {
  const names = control.map((one) => one.replace("Microsoft.Compute", "MicrosoftxCompute"));
  expect(lacking({ actions: names, dataActions: data }).length).toBeGreaterThan(0);
  expect(lacking({ actions: control.map((one) => `${one}/more`), dataActions: data })).toEqual(control);
});
