/**
 * The stories: what happens to a compose, told in steps that survive any crash. Each story is one file and reads as
 * prose; each step is one file under steps/, named by its verb. Knows everything a release needs and no vendor's API.
 * Start reading at release-compose.ts, then release-disk.ts.
 */

// What commands and pages show of a compose; they have no other door to it.
export { offlinePlan, type Plan, type PlanItem } from "../compose/index.ts";
export { askPreflight } from "./ask-preflight.ts";
export { type AttestOutcome, attestImages, startAttest } from "./attest-images.ts";
export { type Choice, choose, readChosen } from "./chosen.ts";
export { composeLocation } from "./compose-files.ts";
export { type DispatchLoop, dispatchEvents, dispatchUntilClosed, NOBODY } from "./dispatch-events.ts";
export type { Drift } from "./drift.ts";
export { windowAt } from "./freeze.ts";
export type * from "./groups.ts";
export { type HandleInput, handleEvent } from "./handle-event.ts";
export { type Handled, withRunStates } from "./handled.ts";
export { livePlan } from "./live-plan.ts";
export type { OfferOutcome } from "./offer-outcome.ts";
export { offerThawed } from "./offer-thawed.ts";
export { type PlanFile, type PlanWithPreflight, readPlan, whatMoved, writePlan } from "./plan-file.ts";
export type { Preflight } from "./preflight.ts";
export { promoteImages, whyNotPromoted } from "./promote-images.ts";
export { type ReconcileOutcome, reconcileImages } from "./reconcile-images.ts";
export { QUEUES, type ReleaseInput, releaseCompose } from "./release-compose.ts";
export { releaseContainer } from "./release-container.ts";
export { releaseDisk } from "./release-disk.ts";
export { rollBackRelease } from "./roll-back-release.ts";
export type { Attester, PlanningServices, Services, Tables, TargetFacts, Targets } from "./services.ts";
export {
  type ActingRule,
  type Automation,
  type FreezeWindow,
  NO_AUTOMATION,
  type Playbooks,
  type Shadow,
} from "./services.ts";
export { DIFFERENCE_KINDS, type DifferenceKind } from "./shadow/difference.ts";
export { hasDifferences, reportShadow, type ShadowReport } from "./shadow/report.ts";
export type { ComposeVerdict } from "./shadow/verdict.ts";
export { type OfferRequest, type StartedOffer, startOffer } from "./start-offer.ts";
export { choiceToCompare, choiceToHeal, healOnce, startReconcile } from "./start-reconcile.ts";
export { type Inspected, inspectCompose, type StartedRelease, startRelease } from "./start-release.ts";
export { compareImages } from "./steps/compare-images.ts";
export { lookAtChosen } from "./steps/look-at-images.ts";
export type { Played } from "./steps/play-playbook.ts";
export type { BytesWanted } from "./verify-bytes.ts";
export { type Verdict, verifyImages } from "./verify-images.ts";
