// Lays out openapi.json for reading. Everything is set as text.
import { fetchJson } from "./token.js";

const $ = (id) => document.getElementById(id);

function make(kind, options = {}, ...children) {
  const element = Object.assign(document.createElement(kind), options);
  element.append(...children);
  return element;
}

/** A schema as an example of its shape. */
function shape(schema, all, depth = 0) {
  if (!schema || depth > 12) return "…";
  if (schema.$ref) return shape(all[schema.$ref.split("/").pop()], all, depth + 1);
  if (schema.anyOf) return shape(schema.anyOf[0], all, depth + 1);
  if (schema.const !== undefined) return schema.const;
  if (schema.enum) return schema.enum.join(" | ");
  if (schema.type === "array") {
    return Array(Math.min(schema.minItems ?? 1, 4) || 1).fill(shape(schema.items ?? {}, all, depth + 1));
  }
  if (schema.properties) {
    return Object.fromEntries(Object.entries(schema.properties).map(([name, inner]) => [name, shape(inner, all, depth + 1)]));
  }
  if (schema.additionalProperties && typeof schema.additionalProperties === "object") {
    return { name: shape(schema.additionalProperties, all, depth + 1) };
  }
  return schema.format === "binary" ? "file" : schema.type ?? "any";
}

function body(title, content, all) {
  return Object.entries(content ?? {}).flatMap(([type, { schema }]) => {
    const example = shape(schema, all);
    const text = typeof example === "string" ? example : JSON.stringify(example, null, 2);
    const block = make("pre", { textContent: text, tabIndex: 0 });
    block.setAttribute("aria-label", `${title}, ${type}`);
    return [make("h3", { textContent: `${title} · ${type}` }), block];
  });
}

function operation(path, verb, facts, all) {
  const inside = make("div", { className: "inside" });
  const rows = (facts.parameters ?? []).map(({ name, in: place, schema, description, required }) => make("tr", {},
    make("td", {}, make("code", { textContent: name })),
    make("td", { textContent: `${place}${required ? ", needed" : ""}. ${description ?? schema?.description ?? ""}` })));
  if (rows.length) inside.append(make("h3", { textContent: "Parameters" }), make("table", {}, make("tbody", {}, ...rows)));
  inside.append(...body("Body", facts.requestBody?.content, all));
  inside.append(...body("Answer", facts.responses["200"]?.content, all));
  const problems = Object.entries(facts.responses).filter(([status]) => status >= "4").map(([status, { description }]) =>
    make("tr", {}, make("td", {}, make("code", { textContent: status })), make("td", { textContent: description })));
  inside.append(make("h3", { textContent: "Problems" }), make("table", {}, make("tbody", {}, ...problems)));
  const head = make("summary", {}, make("span", { className: `verb ${verb}`, textContent: verb.toUpperCase() }),
    make("code", { textContent: path }), make("span", { className: "what", textContent: facts.summary ?? "" }));
  return make("details", { className: "card", open: path === "/v1/predict" }, head, inside);
}

async function main() {
  let file;
  try {
    file = await fetchJson("/openapi.json");
  } catch (error) {
    $("notice").hidden = false;
    $("notice").textContent = error.message;
    return;
  }
  $("example").textContent = [
    `curl ${location.origin}/v1/predict -F file=@robin.jpg -F file=@cat.png`,
    `curl '${location.origin}/v1/predict?draw=1' -F file=@robin.jpg`,
    `curl ${location.origin}/v1/predict -F file=@robin.jpg -H 'Accept: image/png' -o drawn.png`,
    "",
    "# where the server wants a token: -H 'Authorization: Bearer TOKEN'",
  ].join("\n");
  const groups = new Map();
  for (const [path, verbs] of Object.entries(file.paths)) {
    for (const [verb, facts] of Object.entries(verbs)) {
      const group = facts.tags?.[0] ?? "other";
      groups.set(group, [...(groups.get(group) ?? []), operation(path, verb, facts, file.components.schemas)]);
    }
  }
  const order = ["model", "health"];
  const names = [...groups.keys()].sort((a, b) => (order.indexOf(a) + 1 || 9) - (order.indexOf(b) + 1 || 9));
  $("groups").replaceChildren(...names.flatMap((name) => [make("h2", { textContent: name }), ...groups.get(name)]));
}

main();
