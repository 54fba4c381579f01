// A photograph by the camera of the visitor's machine.

import { at, say } from "/static/api.js";

/** Offer the camera, if there is one to ask for; `give` is called with the photograph, a PNG file. */
export function useCamera(give) {
  if (!navigator.mediaDevices?.getUserMedia) return;
  at("camera").hidden = false;
  at("camera-open").addEventListener("click", () => open().catch(refused));
  at("camera-close").addEventListener("click", close);
  at("camera-take").addEventListener("click", async () => {
    const photograph = await taken();
    close();
    await give(new File([photograph], "photograph.png", { type: "image/png" }));
  });
}

async function open() {
  say(null);
  const video = at("video");
  video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  at("camera").hidden = true;
  at("finder").hidden = false;
  await video.play();
  at("camera-take").focus();
}

function close() {
  const video = at("video");
  for (const track of video.srcObject?.getTracks() ?? []) track.stop();
  video.srcObject = null;
  at("finder").hidden = true;
  at("camera").hidden = false;
  at("camera-open").focus();
}

function taken() {
  const video = at("video");
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  canvas.getContext("2d").drawImage(video, 0, 0);
  return new Promise((done) => canvas.toBlob(done, "image/png"));
}

function refused(error) {
  const why = { NotAllowedError: "it was not allowed", NotFoundError: "there is none" }[error.name] ?? error.message;
  say(new Error(`the camera cannot be used: ${why}.`));
}
