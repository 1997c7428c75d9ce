// Starts ReDoc, and hands it the page's nonce for the styles that it makes as it goes.
"use strict";

const element = document.getElementById("redoc");
Redoc.init(element.dataset.schema, { nonce: document.currentScript.nonce }, element);
