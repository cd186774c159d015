import { Label } from "@patternfly/react-core/dist/esm/components/Label";

const COLOURS = {
  waiting: "grey",
  running: "blue",
  done: "green",
  failed: "red",
  cancelled: "orange",
  abandoned: "orange",
  active: "green",
  candidate: "yellow",
  deprecated: "orange",
  obsolete: "orange",
  removed: "grey",
  missing: "red",
  starting: "blue",
  started: "green",
  skipped: "grey",
  delivered: "green",
  "delivered-with-warning": "orange",
  invalid: "red",
} as const;

export function StateLabel({ state }: { state: string }) {
  return (
    <Label isCompact color={COLOURS[state as keyof typeof COLOURS] ?? "grey"}>
      {state}
    </Label>
  );
}
