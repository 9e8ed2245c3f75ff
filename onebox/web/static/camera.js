// The camera, as a source of frames. Nothing is recorded; the camera goes off when it is stopped or the page is left.

export class Camera {
  constructor() {
    this.video = document.createElement("video");
    this.video.muted = true;
    this.video.playsInline = true;
    this.stream = null;
  }

  get on() {
    return this.stream !== null;
  }

  /** Raises an Error in words where there is none, or where the person says no. */
  async start() {
    if (!navigator.mediaDevices?.getUserMedia) {
      throw new Error("This browser gives pages a camera only over https or on this machine (localhost).");
    }
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({
        video: { facingMode: "environment", width: { ideal: 1280 } }, audio: false,
      });
    } catch (error) {
      const denied = error.name === "NotAllowedError";
      throw new Error(denied ? "The camera was not allowed." : "No camera was found.");
    }
    this.video.srcObject = this.stream;
    await this.video.play();
  }

  stop() {
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    this.stream = null;
    this.video.srcObject = null;
  }

  /** The frame of now, as a picture and as a JPEG file. */
  async frame(name) {
    const picture = await createImageBitmap(this.video);
    const canvas = new OffscreenCanvas(picture.width, picture.height);
    canvas.getContext("2d").drawImage(picture, 0, 0);
    const blob = await canvas.convertToBlob({ type: "image/jpeg", quality: 0.9 });
    return { picture, file: new File([blob], name, { type: "image/jpeg" }) };
  }
}
