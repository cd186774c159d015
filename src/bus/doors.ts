/** How the doors for events are, for probes and for people. Counts are since the process began. */
export interface DoorsState {
  /** Undefined: nothing is configured to be consumed, or sent. */
  readonly consuming: boolean | undefined;
  readonly publishing: boolean | undefined;
  /** Why not, in words without secrets. */
  readonly trouble: string | undefined;
  readonly received: number;
  readonly fresh: number;
  readonly repeated: number;
  readonly quarantined: number;
  readonly delivered: number;
  readonly unroutable: number;
}
