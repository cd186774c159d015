import { z } from "zod";
import { compileExpression } from "../rules/index.ts";
import { topicPattern } from "./schema-events.ts";
import { duration, ownName, secret } from "./values.ts";

/** A condition or a key in CEL. Compiled here, so that a mistake is told with its place and not by an event. */
const expression = z.string().superRefine((text, context) => {
  const made = compileExpression(text);
  if (!("evaluate" in made)) {
    context.addIssue(`${made.message} (line ${made.line}, column ${made.column} of the expression)`);
  }
});

const scope = {
  what: expression.describe("Compose, image, a cloud's id or repository:tag, said in CEL: `body.compose_id`."),
  system: ownName.optional(),
  target: ownName.optional(),
};

const release = z.strictObject({
  system: ownName.optional().describe("Default: every system that takes the compose."),
  as: z.enum(["candidate"]).optional().describe("Stop before the offer."),
});

const playbook = z.strictObject({
  name: z
    .string()
    .min(1)
    .max(300)
    .optional()
    .describe("Below `automation.playbooks`. Default: the one that is called as the topic is."),
  user: ownName.optional().describe("The automation user it acts as, by its name in `automation.users`."),
  inventory: z.string().min(1).optional().describe("Default: `automation.inventory`."),
  limit: z
    .array(z.string().regex(/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}$/, "is not the name of a host or a group"))
    .min(1)
    .optional()
    .describe("Hosts or groups of the inventory. Default: all that its user may reach."),
  tags: z.array(z.string().min(1)).optional(),
  check: z.boolean().default(false).describe("Only say what would be changed."),
  secrets: z
    .record(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]{0,60}$/, "is not the name of a variable"), secret)
    .default({})
    .describe("Given to the playbook as environment variables, and masked in everything it says."),
  on_takeover: z
    .enum(["rerun", "hold"])
    .default("rerun")
    .describe("When the machine it ran on died: run it again, or wait for a person."),
});

const action = z
  .union([
    z.strictObject({ release }),
    z.strictObject({ playbook }),
    z.strictObject({ promote: z.strictObject(scope) }),
    z.strictObject({ rollback: z.strictObject({ ...scope, deprecate: z.boolean().default(false) }) }),
    z.strictObject({ attest: z.strictObject(scope) }),
    z.strictObject({ heal: z.strictObject({}) }),
  ])
  .describe("`release`, `playbook`, `promote`, `rollback`, `attest` or `heal`.");

export const rule = z.strictObject({
  name: ownName
    .optional()
    .describe("What was done about an event is remembered under it. Default: `release`, or the topic's last word."),
  topic: topicPattern.describe("Topic of the event; `*` is one word, `#` any number of words."),
  when: expression
    .optional()
    .describe('Condition in CEL over `topic`, `body`, `headers`, `severity`: `body.status == "FINISHED"`.'),
  system: ownName.optional().describe("Short for `do: {release: {system: …}}`."),
  do: action.optional().describe("Default: release the compose that the event is about."),
  enabled: z.boolean().default(true),
  once: z
    .strictObject({ per: expression, within: duration.prefault("30d") })
    .optional()
    .describe("Only the first of all events with one key; the others are skipped."),
  throttle: z
    .strictObject({ most: z.int().min(1).default(1), per: duration, by: expression.optional() })
    .optional()
    .describe("At most so many in a time; the others are skipped."),
  debounce: z
    .strictObject({ quiet: duration, at_most: duration.prefault("1h"), by: expression.optional() })
    .optional()
    .describe("Wait until none came for a while, then act on the last."),
  join: z
    .strictObject({
      topic: topicPattern,
      when: expression.optional(),
      by: expression.describe("What both have in common: `body.compose_id`."),
      other_by: expression.optional().describe("The same in the other event, if it is called otherwise there."),
      within: duration.prefault("1d"),
    })
    .optional()
    .describe("Wait for an event of each of two kinds."),
  lock: expression.optional().describe("Runs with one key go one after another, whichever rule started them."),
  during_freeze: z
    .enum(["hold", "drop", "run"])
    .optional()
    .describe("In a freeze window. Default: `run` for releases, which stop before the offer, else `hold`."),
  retry: z
    .strictObject({
      attempts: z.int().min(1).max(20).default(3),
      backoff: duration.prefault("1m").describe("Before the second attempt; doubled each time."),
    })
    .prefault({})
    .describe("Of what fails and may work later."),
  timeout: duration.prefault("1h").describe("Of one attempt."),
});
