/**
 * The three functions of the metadata proposal that the certificate library's container calls when it is loaded.
 * It looks for them on `Reflect` and refuses to load without. Imported before it, for the effect alone.
 */
const metadata = new WeakMap<object, Map<unknown, unknown>>();

const functions = {
  defineMetadata(key: unknown, value: unknown, target: object): void {
    const known = metadata.get(target) ?? new Map<unknown, unknown>();
    metadata.set(target, known.set(key, value));
  },
  getOwnMetadata(key: unknown, target: object): unknown {
    return metadata.get(target)?.get(key);
  },
  getMetadata(key: unknown, target: object): unknown {
    for (let at: object | null = target; at !== null; at = Object.getPrototypeOf(at)) {
      const value = metadata.get(at)?.get(key);
      if (value !== undefined) return value;
    }
    return undefined;
  },
};

if (!("getOwnMetadata" in Reflect)) Object.assign(Reflect, functions);
