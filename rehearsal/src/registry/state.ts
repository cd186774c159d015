/** What a registry keeps. Blobs are stored once and linked into repositories, as real ones do. */
export interface RegistryState {
  readonly blobs: Map<string, Buffer>;
  readonly repositories: Map<string, RepositoryState>;
  /** The repository of that name, made if it is not there. */
  repository(name: string): RepositoryState;
  clear(): void;
}

export interface RepositoryState {
  /** Digests that may be read through this repository. */
  readonly blobs: Set<string>;
  readonly manifests: Map<string, { readonly bytes: Buffer; readonly mediaType: string }>;
  /** Tag → digest. */
  readonly tags: Map<string, string>;
  readonly uploads: Map<string, Upload>;
}

export interface Upload {
  readonly parts: Buffer[];
  bytes: number;
  /** Which answer's Location is the current one. */
  turn: number;
}

export function createState(): RegistryState {
  const blobs = new Map<string, Buffer>();
  const repositories = new Map<string, RepositoryState>();
  return {
    blobs,
    repositories,
    repository(name) {
      const found = repositories.get(name);
      if (found) return found;
      const made = { blobs: new Set<string>(), manifests: new Map(), tags: new Map(), uploads: new Map() };
      repositories.set(name, made);
      return made;
    },
    clear() {
      blobs.clear();
      repositories.clear();
    },
  };
}
