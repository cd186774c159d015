import { SlipwayError } from "../lib/errors.ts";

/** For a key that stays shut. */
export function wrongPassphrase(passphrase: string | undefined, where: string): SlipwayError {
  const missing = passphrase === undefined;
  return new SlipwayError(
    "unauthenticated",
    missing ? "the key is encrypted and there is no passphrase" : "the passphrase does not open the key",
    { subject: where, next: "Set attestations.passphrase to {env: NAME} or {file: PATH}." },
  );
}
