/** A compose to rehearse with: made here, by Node alone. */
export { makeSampleCompose, type SampleCompose, type SampleComposeOptions } from "./compose.ts";
export { makeSampleDisk } from "./disk.ts";
