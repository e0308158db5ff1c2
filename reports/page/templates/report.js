"use strict";
{
  document.documentElement.classList.add("js");

  const download = (name, type, content) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([content], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };

  // A figure outside the page has no scheme: its variables become the colours they fall back on.
  for (const button of document.querySelectorAll("button[data-svg]")) {
    button.addEventListener("click", () => {
      const svg = document.getElementById(button.dataset.svg).querySelector("svg");
      const text = new XMLSerializer().serializeToString(svg).replace(/var\(--[\w-]+, ([^)]+)\)/g, "$1");
      download(button.dataset.file, "image/svg+xml", `<?xml version="1.0" encoding="utf-8"?>\n${text}\n`);
    });
  }

  for (const button of document.querySelectorAll("button[data-copy]")) {
    button.addEventListener("click", async () => {
      const source = document.getElementById(button.dataset.copy);
      try {
        await navigator.clipboard.writeText(source.innerText);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(source);
        button.textContent = "Selected";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
  }

  // What is wider than its place says that it scrolls.
  const mark = new ResizeObserver((changed) => {
    for (const { target } of changed) {
      const hint = target.parentElement.querySelector(".sideways");
      hint.hidden = target.scrollWidth <= target.clientWidth;
    }
  });
  for (const place of document.querySelectorAll(".plot, .scroll")) mark.observe(place);

  const contents = document.querySelector("nav.contents details");
  if (matchMedia("(max-width: 70rem)").matches) contents.open = false;
}
