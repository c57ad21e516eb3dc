"use strict";
// Read in the head: the theme is set before anything is drawn. Airflow's user interface keeps its own under "theme".
(function () {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  function theme() {
    let kept = null;
    try { kept = localStorage.getItem("theme"); } catch { /* storage is forbidden: the system's theme */ }
    document.documentElement.dataset.theme = kept === "dark" || kept === "light" ? kept : dark.matches ? "dark" : "light";
  }
  theme();
  window.addEventListener("storage", theme);
  dark.addEventListener("change", theme);

  async function fetchPart(part) {
    try {
      const answer = await fetch(part.dataset.part, { credentials: "same-origin" });
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const content = answer.ok ? page.body : page.querySelector("main") || page.body;
      part.replaceChildren(...content.childNodes);
    } catch (error) {
      part.textContent = `Airflow does not answer: ${error.message}`;
    }
    part.setAttribute("aria-busy", "false");
    part.querySelectorAll("form.replay").forEach((form) => form.addEventListener("submit", replay));
  }

  // A replay is a run of a DAG. Airflow's own API decides who may start one; it takes JSON only, which no other site can send.
  async function replay(event) {
    event.preventDefault();
    const form = event.target, told = form.querySelector(".outcome"), button = form.querySelector("button");
    const runs = `${document.body.dataset.airflow}/api/v2/dags/${form.dataset.dag}/dagRuns`;
    const correction = { source: form.dataset.source, record_number: Number(form.dataset.record), text: form.elements.text.value };
    const conf = { dataset: form.dataset.dataset, date: form.dataset.date, corrections: [correction], note: form.elements.note.value };
    button.disabled = true;
    try {
      let run = await call(runs, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ logical_date: null, conf }) });
      const id = run.dag_run_id;
      while (!["success", "failed"].includes(run.state)) {
        told.textContent = `Run ${id} is ${run.state} …`;
        await new Promise((resolve) => setTimeout(resolve, 2000));
        run = await call(`${runs}/${encodeURIComponent(id)}`, {});
      }
      form.dataset.state = run.state;
      told.textContent = run.state === "success" ? await outcome(runs, id, form.dataset.task) : `Run ${id} failed: see the DAG ${form.dataset.dag}.`;
    } catch (error) {
      told.textContent = error.message;
    }
    button.disabled = false;
  }

  async function outcome(runs, id, task) {
    const entry = await call(`${runs}/${encodeURIComponent(id)}/taskInstances/${task}/xcomEntries/return_value`, {});
    const { before, after, sent } = typeof entry.value === "string" ? JSON.parse(entry.value) : entry.value;
    if (sent) return `Sent again as ${Object.values(sent).join(", ")}. The topic's next load takes it.`;
    return `The ledger closes: ${after.read} read = ${after.written} written + ${after.rejected} rejected + ${after.filtered} filtered + ` +
      `${after.deduplicated} deduplicated. Before, ${before.rejected} were rejected.`;
  }

  async function call(path, options) {
    const answer = await fetch(path, { credentials: "same-origin", ...options });
    if (!answer.ok) throw new Error(`Airflow refused: ${answer.status} ${(await answer.text()).slice(0, 300)}`);
    return answer.json();
  }

  document.addEventListener("DOMContentLoaded", () => document.querySelectorAll("[data-part]").forEach(fetchPart));
})();
