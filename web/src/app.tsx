import {
  Masthead,
  MastheadBrand,
  MastheadContent,
  MastheadMain,
} from "@patternfly/react-core/dist/esm/components/Masthead";
import { Page, PageSection } from "@patternfly/react-core/dist/esm/components/Page";
import { useQuery } from "@tanstack/react-query";
import { get } from "./api.ts";
import { EventsPage } from "./events-page.tsx";
import { ImagesPage } from "./images-page.tsx";
import { Link } from "./link.tsx";
import { usePath } from "./router.ts";
import { RunPage } from "./run-page.tsx";
import { RunsPage } from "./runs-page.tsx";

const PLACES = [
  { path: "/", name: "Runs" },
  { path: "/images", name: "Images" },
  { path: "/events", name: "Events" },
] as const;

export function App() {
  const path = usePath();
  const about = useQuery({
    queryKey: ["about"],
    queryFn: () => get<{ version: string }>("/api/about"),
    staleTime: Number.POSITIVE_INFINITY,
  });
  const masthead = (
    <Masthead>
      <MastheadMain>
        <MastheadBrand>
          <Link to="/" className="brand">
            Slipway
          </Link>
        </MastheadBrand>
      </MastheadMain>
      <MastheadContent>
        <nav className="places">
          {PLACES.map((place) => (
            <Link key={place.path} to={place.path} className={isAt(path, place.path) ? "here" : ""}>
              {place.name}
            </Link>
          ))}
        </nav>
        <span className="version">{about.data && `v${about.data.version}`}</span>
      </MastheadContent>
    </Masthead>
  );
  return (
    <Page masthead={masthead}>
      <PageSection>{pageOf(path)}</PageSection>
    </Page>
  );
}

function isAt(path: string, place: string): boolean {
  return place === "/" ? path === "/" || path.startsWith("/runs") : path.startsWith(place);
}

function pageOf(path: string) {
  if (path.startsWith("/runs/")) return <RunPage key={path} id={decodeURIComponent(path.slice("/runs/".length))} />;
  if (path === "/images") return <ImagesPage />;
  if (path === "/events" || path.startsWith("/events/")) return <EventsPage path={path} />;
  return <RunsPage />;
}
