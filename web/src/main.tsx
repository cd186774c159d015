import "@patternfly/react-core/dist/styles/base-no-reset.css";
import "./style.css";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { App } from "./app.tsx";

const root = document.getElementById("root");
if (root === null) throw new Error("the page has no root");
if (window.matchMedia("(prefers-color-scheme: dark)").matches)
  document.documentElement.classList.add("pf-v6-theme-dark");
createRoot(root).render(
  <StrictMode>
    <QueryClientProvider client={new QueryClient({ defaultOptions: { queries: { retry: 1 } } })}>
      <App />
    </QueryClientProvider>
  </StrictMode>,
);
