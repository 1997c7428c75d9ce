// Starts ReDoc within the page's policy: the style elements that it makes carry the page's nonce,
// and its only image, a logo on its makers' server, becomes an empty span. This runs before
// ReDoc's own file, which makes the first of its styles as it loads.
"use strict";

const { nonce } = document.currentScript;
const createElement = document.createElement;

document.createElement = function (name, options) {
  const element = createElement.call(document, name === "img" ? "span" : name, options);
  if (name === "style") element.nonce = nonce;
  return element;
};

window.addEventListener("DOMContentLoaded", () => {
  const element = document.getElementById("redoc");
  Redoc.init(element.dataset.schema, {}, element);
});
