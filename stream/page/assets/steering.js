// What a viewer can say back: pause, resume, recenter, a marker.

import { put } from "./readout.js";

const find = (id) => document.getElementById(id);

async function post(address, message) {
  try {
    const answer = await fetch(address, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(message),
    });
    return await answer.json();
  } catch {
    return { obeyed: false, reason: "the server does not answer" };
  }
}

/** Wires buttons and form; `publisherName()` is whom they concern, `announce(text)` tells a screen reader. */
export function wireSteering({ publisherName, publisher, announce, describe }) {
  const reply = (text, tone = "quiet") => {
    find("reply").dataset.tone = tone;
    put("reply", text);
    announce(text);
  };
  const command = async (name, done) => {
    const { obeyed, reason } = await post("/command", { publisher: publisherName(), command: name });
    if (obeyed) reply(reason || done);
    else reply(`Not done: ${reason}`, "bad");
  };
  find("pause").addEventListener("click", () => {
    if (publisher()?.status?.phase === "paused") command("resume", "Going on.");
    else command("pause", "Paused.");
  });
  find("recenter").addEventListener("click", () => command("recenter", "Recentered: the folds' means are told anew."));
  find("say").addEventListener("click", () => reply(describe()));
  find("marker-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const entry = find("marker");
    const text = entry.value.trim();
    if (!text) return reply("Say what is to be marked.", "bad");
    const { obeyed, reason } = await post("/marker", { publisher: publisherName(), text });
    if (!obeyed) return reply(`Not marked: ${reason}`, "bad");
    entry.value = "";
    return reply(`Marked: ${text}`);
  });
}

/** What can be pressed, as things stand. */
export function showSteering(publisher, isLive, markers) {
  const phase = publisher?.status?.phase;
  const isThere = publisher?.link === "ok" && !["offline", "stopped"].includes(publisher.available);
  const steerable = isLive && isThere && (phase === "running" || phase === "paused");
  find("pause").disabled = find("recenter").disabled = !steerable;
  put("pause", phase === "paused" ? "Resume" : "Pause");
  find("marker-form").hidden = !markers;
}
