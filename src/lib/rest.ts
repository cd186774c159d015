export interface Rest {
  /** Somebody has work: who rests stops resting, and who is about to does not begin. */
  wake(): void;
  /** Forgets what it was woken for, before looking for work: what is told from then on counts. */
  begin(): void;
  /** Resolves after so many milliseconds, or when it is woken. */
  wait(ms: number): Promise<void>;
}

/** The pause of a loop that looks for work, and has to look at once when it is told of some, also a moment before. */
export function createRest(): Rest {
  let woken = false;
  let wakeUp = () => {};
  return {
    wake() {
      woken = true;
      wakeUp();
    },
    begin() {
      woken = false;
    },
    wait(ms) {
      if (woken) return Promise.resolve();
      return new Promise((resolve) => {
        const timer = setTimeout(resolve, ms);
        wakeUp = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    },
  };
}
