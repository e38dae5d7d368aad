"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const composition = document.getElementById("composition");
  const dialogue = document.getElementById("dialogue");
  const answers = document.getElementById("answers");

  // Texts of the run are only ever set as text: an answer may hold HTML.
  const element = (name, text, className) => {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    return made;
  };

  const verdict = (said, yes, no) =>
    said === null ? [] : [element("span", said ? `✓ ${yes}` : `✗ ${no}`, said ? "yes" : "no")];

  const card = (row, answer, language) => {
    const item = element("li", undefined, "card");
    item.append(element("h3", row.title));
    if (!answer) {
      item.append(element("p", "not asked", "empty"));
      return item;
    }
    const [text, cut, rouge, found, spoken, judged, asked] = answer;
    const verdicts = element("div", undefined, "verdicts");
    verdicts.append(
      ...verdict(judged, "judge: yes", "judge: no"),
      ...verdict(asked, "language model: yes", "language model: no"),
      ...verdict(found, "nearest to its reference", "nearer to another reference"),
      ...verdict(spoken, `in ${language}`, `not in ${language}`),
      ...(rouge === null ? [] : [element("span", `masked ROUGE ${rouge.toFixed(1)}`)]),
      ...(cut ? [element("span", "cut for want of room")] : []),
    );
    item.append(text.trim() ? element("p", text) : element("p", "empty", "empty"), verdicts);
    return item;
  };

  const show = () => {
    const asked = data.compositions[composition.value];
    const place = Number(dialogue.value);
    const text = asked.texts[place];
    document.getElementById("text").textContent =
      text === null ? `${asked.name} was not asked of this dialogue.` : data.texts[text];
    document.getElementById("wanted").textContent = asked.references[place] ?? "";
    document.getElementById("wanted").lang = asked.language;
    answers.replaceChildren(
      ...data.rows.map((row) => card(row, asked.answers[row.label]?.[place], asked.language)),
    );
    document.getElementById("where").textContent =
      `${data.dialogues[place].id}, dialogue ${place + 1} of ${data.dialogues.length}, ${asked.name}`;
  };

  const move = (by) => {
    const count = data.dialogues.length;
    dialogue.value = String((Number(dialogue.value) + by + count) % count);
    show();
  };

  data.compositions.forEach((asked, place) => composition.append(new Option(asked.name, place)));
  const domains = new Map();
  data.dialogues.forEach(({ id, domain }, place) => {
    if (!domains.has(domain)) {
      const group = element("optgroup");
      group.label = domain;
      domains.set(domain, group);
      dialogue.append(group);
    }
    domains.get(domain).append(new Option(id, place));
  });
  composition.addEventListener("change", show);
  dialogue.addEventListener("change", show);
  document.getElementById("previous").addEventListener("click", () => move(-1));
  document.getElementById("next").addEventListener("click", () => move(1));
  document.getElementById("browser").hidden = false;
  show();
})();
