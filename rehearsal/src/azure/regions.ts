/**
 * Azure's regions as the management API writes them: asked for as `eastus` or `East US`, answered as `East US` inside a
 * publishing profile and as `eastus` in a resource's `location`. A client that compares the two as text is wrong.
 */
const DISPLAY_NAMES = [
  "Australia Central",
  "Australia East",
  "Australia Southeast",
  "Austria East",
  "Belgium Central",
  "Brazil South",
  "Canada Central",
  "Canada East",
  "Central India",
  "Central US",
  "Chile Central",
  "East Asia",
  "East US",
  "East US 2",
  "France Central",
  "Germany West Central",
  "Indonesia Central",
  "Israel Central",
  "Italy North",
  "Japan East",
  "Japan West",
  "Korea Central",
  "Korea South",
  "Malaysia West",
  "Mexico Central",
  "New Zealand North",
  "North Central US",
  "North Europe",
  "Norway East",
  "Poland Central",
  "Qatar Central",
  "South Africa North",
  "South Central US",
  "South India",
  "Southeast Asia",
  "Spain Central",
  "Sweden Central",
  "Switzerland North",
  "UAE North",
  "UK South",
  "UK West",
  "West Central US",
  "West Europe",
  "West India",
  "West US",
  "West US 2",
  "West US 3",
] as const;

const byName = new Map<string, string>(DISPLAY_NAMES.map((display) => [regionName(display), display]));

/** `East US` and `eastus` alike become `eastus`. */
export function regionName(text: string): string {
  return text.replaceAll(" ", "").toLowerCase();
}

/** `eastus` → `East US`; undefined for a region that does not exist. */
export function regionDisplayName(name: string): string | undefined {
  return byName.get(regionName(name));
}

export function allRegions(): { name: string; displayName: string }[] {
  return DISPLAY_NAMES.map((displayName) => ({ name: regionName(displayName), displayName }));
}
