// Starts ReDoc within the pages' policy: the style elements it makes carry the page's nonce, and
// the logo that it would fetch from its makers is not asked for. Runs before ReDoc's own file,
// which makes the first of its styles as it loads.
"use strict";

const { nonce } = document.currentScript;
const createElement = document.createElement;

document.createElement = function (name, options) {
  const element = createElement.call(document, name, options);
  if (name === "style") element.nonce = nonce;
  if (name === "img") keepHome(element);
  return element;
};

function keepHome(image) {
  image.setAttribute = function (name, value) {
    if (name !== "src" || new URL(value, location.href).origin === location.origin) {
      Element.prototype.setAttribute.call(image, name, value);
    } else {
      setTimeout(() => image.dispatchEvent(new Event("error"))); // ReDoc takes it away then
    }
  };
}

window.addEventListener("DOMContentLoaded", () => {
  const element = document.getElementById("redoc");
  Redoc.init(element.dataset.schema, {}, element);
});
