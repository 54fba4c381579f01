// What the pages of the studio share: elements, and calls of the API. Every text is set as text, never as markup.

export const at = (id) => document.getElementById(id);

/** Make an element with properties and children. */
export function make(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("aria-") || name === "role" || name === "for") node.setAttribute(name, value);
    else node[name] = value;
  }
  node.append(...children);
  return node;
}

/** The error of an answer, with its status. */
async function failure(answer) {
  const { detail } = await answer.json().catch(() => ({}));
  return Object.assign(new Error(detail ?? `the studio answered ${answer.status}`), { status: answer.status });
}

/** Call the API; a problem becomes an error with its detail. */
export async function call(path, options = {}) {
  const answer = await fetch(path, options).catch(() => {
    throw new Error("the studio cannot be reached");
  });
  if (!answer.ok) throw await failure(answer);
  return answer.status === 204 ? null : answer.json();
}

export const post = (path, body) =>
  call(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

/** Yield the data of server-sent events. */
export async function* events(path) {
  const answer = await fetch(path);
  if (!answer.ok) throw await failure(answer);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    text += part.value;
    const messages = text.split("\n\n");
    text = messages.pop();
    for (const message of messages) yield JSON.parse(message.replace(/^data: /, ""));
  }
}

/** Show an error in the page's alert, or remove it. */
export function say(error) {
  at("problem").hidden = !error;
  at("problem").textContent = error ? error.message : "";
}
