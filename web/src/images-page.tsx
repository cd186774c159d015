import { Title } from "@patternfly/react-core/dist/esm/components/Title";
import { useQuery } from "@tanstack/react-query";
import { useDeferredValue, useState } from "react";
import { type Container, get, type Image } from "./api.ts";
import { StateLabel } from "./state-label.tsx";

export function ImagesPage() {
  const [search, setSearch] = useState("");
  const wanted = useDeferredValue(search);
  const found = useQuery({
    queryKey: ["images", wanted],
    queryFn: ({ signal }) =>
      get<{ images: Image[]; containers: Container[] }>(`/api/images?search=${encodeURIComponent(wanted)}`, signal),
    placeholderData: (before) => before,
  });
  const groups = Object.entries(Object.groupBy(found.data?.images ?? [], (image) => `${image.target} ${image.name}`));
  return (
    <>
      <header className="run-head">
        <Title headingLevel="h1">Images</Title>
        <input
          type="search"
          placeholder="name, id or compose"
          aria-label="Search images"
          value={search}
          onChange={(event) => setSearch(event.target.value)}
        />
      </header>
      <table className="list">
        <thead>
          <tr>
            <th>State</th>
            <th>Name</th>
            <th>Target</th>
            <th>Arch</th>
            <th>Where</th>
          </tr>
        </thead>
        <tbody>
          {groups.map(([key, images]) => (
            <ImageRow key={key} images={images ?? []} />
          ))}
          {found.data?.containers.map((container) => (
            <tr key={`${container.target} ${container.repository} ${container.composeId}`}>
              <td>
                <StateLabel state="active" />
              </td>
              <td>
                {container.repository}
                <div className="faint">{container.tags.join(" · ")}</div>
              </td>
              <td>{container.target}</td>
              <td>{container.architectures.join(" ")}</td>
              <td>
                <code>{container.digest.slice(0, 19)}…</code>
                <div className="faint">{container.registry}</div>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      {found.data && groups.length + found.data.containers.length === 0 && <p className="faint">Nothing is there.</p>}
    </>
  );
}

function ImageRow({ images }: { images: readonly Image[] }) {
  const first = images[0];
  if (first === undefined) return null;
  const states = [...new Set(images.map((image) => image.state))];
  return (
    <tr>
      <td>
        {states.map((state) => (
          <StateLabel key={state} state={state} />
        ))}
      </td>
      <td>
        {first.name}
        <div className="faint">{first.version.composeId}</div>
      </td>
      <td>{first.target}</td>
      <td>{first.version.arch}</td>
      <td>
        <details>
          <summary>
            {images.length} {images.length === 1 ? "region" : "regions"}
          </summary>
          <dl className="facts">
            {images.map((image) => (
              <div key={image.region}>
                <dt>{image.region}</dt>
                <dd>{image.id ? <code>{image.id}</code> : image.error?.message}</dd>
              </div>
            ))}
          </dl>
        </details>
      </td>
    </tr>
  );
}
