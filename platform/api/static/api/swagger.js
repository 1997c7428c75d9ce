// Starts Swagger UI. A file of its own, since the pages' policy allows no inline script.
"use strict";

const element = document.getElementById("swagger-ui");
SwaggerUIBundle({ url: element.dataset.schema, domNode: element, deepLinking: true });
