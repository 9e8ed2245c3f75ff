// New pictures for the folder: dropped, pasted, chosen, or from the camera. Sends each file as it is; the server checks
// it and gives it a name that is free.

import { request } from './label-api.js';

const byId = (id) => document.getElementById(id);

export class Intake {
  constructor({ added, say }) {
    this.added = added;
    this.say = say;
    this.stream = null;
    byId('files').addEventListener('change', (event) => {
      this.take([...event.target.files]);
      event.target.value = '';
    });
    this.listenToDrops();
    document.addEventListener('paste', (event) => {
      if (event.clipboardData?.files.length) this.take([...event.clipboardData.files]);
    });
    byId('shoot').addEventListener('click', () => this.shoot());
    byId('close-camera').addEventListener('click', () => byId('camera').close());
    byId('camera').addEventListener('close', () => this.stopCamera());
  }

  choose() { byId('files').click(); }

  async take(files) {
    let done = 0;
    const refused = [];
    for (const file of files) {
      try {
        const picture = await request('POST', `/api/pictures?name=${encodeURIComponent(file.name.toWellFormed?.() ?? file.name)}`, { body: file });
        done += 1;
        this.added(picture, done === 1);
        if (files.length > 1) this.say(`${done} of ${files.length} pictures added`);
      } catch (error) {
        refused.push(`${file.name}: ${error.message}`);
      }
    }
    if (refused.length) this.say(refused.length === 1 ? refused[0] : `${refused.length} of ${files.length} not added. ${refused[0]}`);
    else if (files.length === 1) this.say('Picture added.');
  }

  listenToDrops() {
    const veil = byId('drop');
    const hasFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes('Files');
    document.addEventListener('dragover', (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      veil.hidden = false;
    });
    document.addEventListener('dragleave', (event) => { if (!event.relatedTarget) veil.hidden = true; });
    document.addEventListener('drop', (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      veil.hidden = true;
      this.take([...event.dataTransfer.files]);
    });
  }

  async openCamera() {
    byId('camera').showModal();
    const text = byId('camera-text');
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: 'environment', width: { ideal: 1920 } }, audio: false });
      byId('video').srcObject = this.stream;
      byId('shoot').disabled = false;
      text.textContent = 'Pictures are saved into the folder.';
    } catch (error) {
      byId('shoot').disabled = true;
      text.textContent = error.name === 'NotAllowedError' ? 'The browser did not allow the camera.' : 'No camera was found.';
    }
  }

  async shoot() {
    const video = byId('video');
    if (!video.videoWidth) return;
    const canvas = document.createElement('canvas');
    canvas.width = video.videoWidth;
    canvas.height = video.videoHeight;
    canvas.getContext('2d').drawImage(video, 0, 0);
    const blob = await new Promise((resolve) => { canvas.toBlob(resolve, 'image/jpeg', 0.93); });
    const stamp = new Date().toISOString().replace(/[-:]/g, '').replace('T', '-').slice(0, 15);
    try {
      const picture = await request('POST', `/api/pictures?name=camera-${stamp}.jpg`, { body: blob });
      this.added(picture, false);
      byId('camera-text').textContent = `Saved as ${picture.name}.`;
    } catch (error) {
      byId('camera-text').textContent = error.message;
    }
  }

  stopCamera() {
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    this.stream = null;
    byId('video').srcObject = null;
  }
}
