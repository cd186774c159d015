import type { PlannedImage } from "../../compose/index.ts";

/** One image on its way to AWS, as selection plans it. */
export function plannedImage(changes: Partial<PlannedImage> = {}): PlannedImage {
  return {
    artifact: {
      path: "Cloud/x86_64/images/x.raw.xz",
      url: "https://example.org/compose/Cloud/x86_64/images/x.raw.xz",
      bytes: 1000,
      sha256: "ab".repeat(32),
      arch: "x86_64",
      type: "raw-xz",
      format: "raw.xz",
      subvariant: "Cloud_Base",
      variant: "Cloud",
    },
    cloud: "aws",
    target: "aws",
    arch: "x86_64",
    name: "Fedora-Cloud-43",
    description: "A disk",
    homeRegion: "us-east-1",
    regions: ["us-east-1", "eu-west-1"],
    allRegions: false,
    copies: true,
    endOfLife: "2026-12-02",
    facts: { ComposeID: "Fedora-43-20251021.0" },
    ...changes,
  };
}
