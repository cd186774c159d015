/** What is there before any gallery: subscription, regions, resource group, storage account, permissions, quotas. */
import { ArmError, armRefusals, json } from "./arm-error.ts";
import type { Answer } from "./exchange.ts";
import { countVersions } from "./gallery-state.ts";
import type { Call } from "./management-call.ts";
import { GRANTED_ACTIONS, GRANTED_DATA_ACTIONS, isDataAction } from "./permissions.ts";
import { allRegions, regionDisplayName } from "./regions.ts";

export function subscription({ state, settings }: Call): Answer {
  const id = `/subscriptions/${state.subscriptionId}`;
  return json(200, {
    id,
    subscriptionId: state.subscriptionId,
    tenantId: settings.tenantId,
    displayName: "Rehearsal",
    state: "Enabled",
  });
}

export function locations(call: Call): Answer {
  const id = `/subscriptions/${call.state.subscriptionId}/locations`;
  const value = allRegions().map(({ name, displayName }) => ({
    id: `${id}/${name}`,
    name,
    type: "Region",
    displayName,
    regionalDisplayName: displayName,
    metadata: { regionType: "Physical", regionCategory: "Recommended" },
  }));
  return json(200, { value });
}

export function resourceGroup({ state }: Call): Answer {
  return json(200, {
    id: `/subscriptions/${state.subscriptionId}/resourceGroups/${state.resourceGroup}`,
    name: state.resourceGroup,
    type: "Microsoft.Resources/resourceGroups",
    location: state.storageLocation,
    properties: { provisioningState: "Succeeded" },
  });
}

export function permissions({ settings }: Call): Answer {
  const denied = settings.denied();
  return json(200, {
    value: [
      {
        actions: GRANTED_ACTIONS,
        notActions: denied.filter((action) => !isDataAction(action)),
        dataActions: GRANTED_DATA_ACTIONS,
        notDataActions: denied.filter(isDataAction),
      },
    ],
  });
}

export function storageAccount({ state, settings, exchange, at: [name] }: Call): Answer {
  if (name.toLowerCase() !== state.storageAccount) {
    throw armRefusals.notFound("Microsoft.Storage/storageAccounts", name, state.resourceGroup);
  }
  return json(200, {
    id: state.storageAccountId,
    name: state.storageAccount,
    type: "Microsoft.Storage/storageAccounts",
    location: state.storageLocation,
    kind: "StorageV2",
    sku: { name: "Standard_LRS", tier: "Standard" },
    properties: {
      isHnsEnabled: false,
      allowBlobPublicAccess: false,
      allowSharedKeyAccess: true,
      publicNetworkAccess: "Enabled",
      supportsHttpsTrafficOnly: true,
      minimumTlsVersion: "TLS1_2",
      primaryEndpoints: { blob: settings.blobEndpoint ?? `${exchange.origin}/${state.storageAccount}/` },
      primaryLocation: state.storageLocation,
      statusOfPrimary: "available",
      provisioningState: "Succeeded",
    },
  });
}

export function storageKeys({ state, settings, at: [name] }: Call): Answer {
  if (name.toLowerCase() !== state.storageAccount) {
    throw armRefusals.notFound("Microsoft.Storage/storageAccounts", name, state.resourceGroup);
  }
  return json(200, { keys: [{ keyName: "key1", value: settings.accountKey, permissions: "FULL" }] });
}

export function usages({ state, at: [region] }: Call): Answer {
  if (regionDisplayName(region) === undefined) {
    throw new ArmError(
      400,
      "NoRegisteredProviderFound",
      `No registered resource provider found for location '${region}'.`,
    );
  }
  const count = countVersions(state);
  const usage = (value: string, localizedValue: string, currentValue: number, limit: number): object => ({
    unit: "Count",
    currentValue,
    limit,
    name: { value, localizedValue },
  });
  return json(200, {
    value: [
      usage("galleries", "Galleries", count.galleries, state.limits.galleries),
      usage("galleryImages", "Gallery images", count.definitions, state.limits.definitions),
      usage("galleryImageVersions", "Gallery image versions", count.versions, state.limits.versions),
    ],
  });
}
