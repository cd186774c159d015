import { describeCloud } from "../testing/contract.ts";
import { azureHarness } from "./testing/harness.ts";

describeCloud("azure", azureHarness);
