/**
 * Container registries. `registry.ts` says what one can do, `distribution.ts` does it over the OCI distribution
 * protocol. Refuses to know where an image comes from (`images/` opens it) and what a tag means to users (the
 * workflows choose tags and their order). Start reading at `registry.ts`.
 */
export type { Credentials } from "./auth.ts";
export { openRegistry, type RegistryOptions } from "./distribution.ts";
export { RegistryError } from "./errors.ts";
export { parseManifest } from "./manifests.ts";
export type * from "./registry.ts";
