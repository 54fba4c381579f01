// A text chunk in a PNG file that holds the provenance, as `sheet.write_image` writes it.

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value;
});

function checksum(data) {
  let value = 0xffffffff;
  for (const byte of data) value = TABLE[(value ^ byte) & 0xff] ^ (value >>> 8);
  return ~value >>> 0;
}

function number(value) {
  return Uint8Array.of(value >>> 24, value >>> 16, value >>> 8, value);
}

/** Return the PNG file with an uncompressed iTXt chunk after its header; the key is ASCII, the text Unicode. */
export async function withText(blob, key, text) {
  const encoder = new TextEncoder();
  // key, end of key, not compressed, no method, no language, no translated key, text
  const body = [...encoder.encode(`iTXt${key}`), 0, 0, 0, 0, 0, ...encoder.encode(text)];
  const chunk = Uint8Array.from(body);
  const header = 8 + 25; // the signature and the IHDR chunk, which comes first and always has this length
  const parts = [blob.slice(0, header), number(chunk.length - 4), chunk, number(checksum(chunk)), blob.slice(header)];
  return new Blob(parts, { type: "image/png" });
}
