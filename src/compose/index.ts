/**
 * From a compose's metadata to what goes where under which name. Pure: text and plain data in, plain data out.
 *
 * It refuses to know how metadata is fetched, what a cloud already has and how anything is uploaded. Systems, targets
 * and the state of releases are input. Start reading at `productmd.ts` (what a compose is) and `select.ts` (what it
 * means to a system); `types.ts` has every shape.
 */
export { channelOf, kindOf, prereleaseOf } from "./channel.ts";
export { type ComposeId, type ComposeType, isDate, parseComposeId } from "./compose-id.ts";
export { compareLabels, type Label, parseLabel } from "./label.ts";
export { offlinePlan, offlineRegions, planOf, type RegionPlan } from "./plan.ts";
export { type ComposeFiles, METADATA_LIMITS, readCompose } from "./productmd.ts";
export { endOfLifeOf, releaseNumberOf } from "./releases.ts";
export { selectImages } from "./select.ts";
export { systemTakes } from "./system.ts";
export { checkTemplate, nearest, PER_FILE, PLACEHOLDERS } from "./template.ts";
export type * from "./types.ts";
