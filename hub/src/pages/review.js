// The review grid. As a file, the page keeps decisions in the browser, by image, until they are saved as a table. At a hub they go there as they
// are made; what it has not taken yet is kept in the browser.
'use strict';
(() => {
  const grid = document.getElementById('grid');
  if (!grid) return;
  const hub = grid.dataset.post;
  const KEPT = 'flywheel-review', UNSENT = `flywheel-unsent ${grid.dataset.by} `;
  const SEND_AFTER = 700, AGAIN_AFTER = 5000; // milliseconds
  const AT_ONCE = 500;
  const REJECT = '!reject', UNSURE = '!unsure';
  const WORDS = { [REJECT]: 'no class', [UNSURE]: 'unsure' };
  // As models::Said is in JSON.
  const toSaid = word => ({ [REJECT]: 'reject', [UNSURE]: 'unsure' })[word] ?? (word === undefined ? 'undo' : { label: word });
  const toWord = said => ({ reject: REJECT, unsure: UNSURE })[said] ?? said.label;
  const labels = JSON.parse(grid.dataset.labels), keys = JSON.parse(grid.dataset.keys);
  const tiles = [...grid.children];
  const progress = document.getElementById('progress');
  const by = document.getElementById('by');
  const dialog = document.getElementById('choose');
  const field = document.getElementById('class');
  const read = (key, otherwise) => { try { return JSON.parse(localStorage.getItem(key)) ?? otherwise; } catch { return otherwise; } };
  const keep = (key, value) => { try { localStorage.setItem(key, JSON.stringify(value)); } catch { /* private window: kept on this page */ } };
  // What a hub has not taken yet, of this person: each word under its own key, so that tabs do not write over each other.
  const unsent = {
    // In a private window nothing is kept.
    inMemory: new Map(),
    all() {
      try {
        const kept = Object.entries(localStorage).filter(([key]) => key.startsWith(UNSENT));
        return [...kept.map(([key, text]) => [key.slice(UNSENT.length), text]), ...this.inMemory];
      } catch { return [...this.inMemory]; }
    },
    put(image, text) { try { localStorage.setItem(UNSENT + image, text); } catch { this.inMemory.set(image, text); } },
    // Unless something else was said meanwhile.
    taken(image, text) {
      if (this.inMemory.get(image) === text) this.inMemory.delete(image);
      try { if (localStorage.getItem(UNSENT + image) === text) localStorage.removeItem(UNSENT + image); } catch { /* it is not there */ }
    },
  };
  // What was decided here, by image: what the page was made with holds where there is nothing.
  const said = new Map(hub ? unsent.all().map(([image, text]) => [image, JSON.parse(text)]) : Object.entries(read(KEPT, {})));
  const undo = [];
  const started = Date.now();
  let here = 0, decided = 0;

  let sending = 0, isSending = false;

  if (by) {
    by.value = read(KEPT + '-by', by.value);
    by.addEventListener('change', () => keep(KEPT + '-by', by.value));
  }

  const first = tile => tile.dataset.images.split(' ')[0];
  const before = tile => tile.dataset.said === undefined ? undefined : toWord(JSON.parse(tile.dataset.said));
  const wordOf = tile => said.has(first(tile)) ? said.get(first(tile)).word : before(tile);
  const isDecided = tile => wordOf(tile) !== undefined;

  function show(tile) {
    const word = wordOf(tile);
    const text = word === undefined ? '' : WORDS[word] ?? word;
    tile.querySelector('.said').textContent = text;
    tile.classList.toggle('decided', word !== undefined);
    const { guess, shows } = tile.dataset; // no guess where it would lead who decides
    tile.classList.toggle('corrected', word !== undefined && guess !== undefined && word !== guess);
    tile.setAttribute('aria-label', `${shows}${text ? ', decided: ' + text : ''}`);
  }

  function tell(what) {
    const left = tiles.filter(tile => !isDecided(tile)).length;
    const minutes = (Date.now() - started) / 60000;
    const speed = decided > 4 ? `, ${Math.round(decided / minutes)} a minute` : '';
    const count = hub ? unsent.all().length : 0;
    const waiting = count ? ` ${count} labels are still to be sent.` : '';
    progress.textContent = `${what ? what + '. ' : ''}${left} of ${tiles.length} images wait${speed}.${waiting}`;
  }

  // Keeps a word about some images; none takes back what was said.
  function say(images, word) {
    const at = new Date().toISOString();
    for (const image of images) {
      if (word === undefined && !hub) said.delete(image);
      else said.set(image, { word, at });
      if (hub) unsent.put(image, JSON.stringify({ word, at }));
    }
    if (hub) sendAfter(SEND_AFTER);
    else keep(KEPT, Object.fromEntries(said));
  }

  function sendAfter(time) {
    clearTimeout(sending);
    sending = setTimeout(send, time);
  }

  // Sends what a hub has not taken, one request after another: they may not overtake each other.
  async function send() {
    const batch = unsent.all().slice(0, AT_ONCE);
    if (isSending || !batch.length) return;
    isSending = true;
    const body = JSON.stringify(batch.map(([image, text]) => ({ image, said: toSaid(JSON.parse(text).word) })));
    const answer = await fetch(hub, { method: 'POST', headers: { 'content-type': 'application/json' }, body, keepalive: body.length < 60000 })
      .catch(() => undefined);
    isSending = false;
    if (answer?.ok) {
      batch.forEach(([image, text]) => unsent.taken(image, text));
      tell('');
      if (unsent.all().length) sendAfter(0);
    } else if (answer?.status === 401) {
      tell('Signed out: your labels are kept here until you sign in again');
    } else if (answer?.status === 422 && dropUnknown(batch)) {
      tell('Labels of classes that are no more were dropped');
      sendAfter(0);
    } else if (answer && answer.status < 500 && ![408, 429].includes(answer.status)) {
      tell(`The hub does not take them: ${await answer.text()}`);
    } else {
      tell('The hub cannot be reached, and is tried again');
      sendAfter(AGAIN_AFTER);
    }
  }

  // Whether there were any, from before the classes changed.
  function dropUnknown(batch) {
    const isUnknown = ([, text]) => ![undefined, REJECT, UNSURE, ...labels].includes(JSON.parse(text).word);
    const unknown = batch.filter(isUnknown);
    unknown.forEach(([image, text]) => unsent.taken(image, text));
    return unknown.length > 0;
  }

  function go(place, focus = true) {
    tiles[here].tabIndex = -1;
    tiles[here].setAttribute('aria-selected', 'false');
    here = Math.max(0, Math.min(tiles.length - 1, place));
    tiles[here].tabIndex = 0;
    tiles[here].setAttribute('aria-selected', 'true');
    if (focus) tiles[here].focus();
  }

  function next() {
    const after = tiles.findIndex((tile, i) => i > here && !isDecided(tile));
    const place = after >= 0 ? after : tiles.findIndex(tile => !isDecided(tile));
    if (place >= 0) go(place);
  }

  function decide(word) {
    const tile = tiles[here];
    const images = tile.dataset.images.split(' ');
    undo.push([here, wordOf(tile)]);
    say(images, word);
    decided += 1;
    show(tile);
    tell(`${WORDS[word] ?? word}`);
    next();
  }

  function accept() {
    const { guess } = tiles[here].dataset;
    if (guess === undefined) tell(`Kept by chance: say what you see, by its key${labels.length > keys.filter(key => key).length ? ' or c' : ''}`);
    else decide(guess);
  }

  function takeBack() {
    const last = undo.pop();
    if (!last) return;
    const [place, word] = last;
    say(tiles[place].dataset.images.split(' '), word);
    decided = Math.max(0, decided - 1);
    show(tiles[place]);
    tell('Taken back');
    go(place);
  }

  const columns = () => {
    const top = tiles[0].offsetTop;
    const second = tiles.findIndex(tile => tile.offsetTop !== top);
    return second < 0 ? tiles.length : second;
  };

  const moves = {
    ArrowRight: () => go(here + 1), ArrowLeft: () => go(here - 1),
    ArrowDown: () => go(here + columns()), ArrowUp: () => go(here - columns()),
    Home: () => go(0), End: () => go(tiles.length - 1),
    Enter: accept, ' ': accept,
    x: () => decide(REJECT), u: () => decide(UNSURE), z: takeBack, n: next,
    c: () => { field.value = ''; dialog.showModal(); },
  };

  grid.addEventListener('keydown', event => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const label = labels[keys.indexOf(event.key)];
    const act = label === undefined ? moves[event.key] : () => decide(label);
    if (!act) return;
    event.preventDefault();
    act();
  });

  // However the focus came there.
  grid.addEventListener('focusin', event => {
    const place = tiles.indexOf(event.target.closest('[role=option]'));
    if (place >= 0 && place !== here) go(place, false);
  });

  grid.addEventListener('click', event => {
    const tile = event.target.closest('[role=option]');
    if (!tile) return;
    go(tiles.indexOf(tile));
    const button = event.target.closest('button');
    if (button) decide(button.dataset.label);
  });

  document.getElementById('classes').addEventListener('click', event => {
    const button = event.target.closest('button');
    if (!button) return;
    if (button.dataset.label === undefined) moves[button.dataset.key]();
    else decide(button.dataset.label);
  });

  // Not when the dialog says that it is closed: that comes later, and a key struck until then would be about the image before.
  dialog.addEventListener('submit', event => {
    event.preventDefault();
    dialog.close();
    if (event.submitter.value && labels.includes(field.value)) decide(field.value);
  });
  dialog.addEventListener('close', () => tiles[here].focus());

  document.getElementById('help').addEventListener('click', event => {
    const keys = document.getElementById('keys');
    keys.hidden = !keys.hidden;
    event.currentTarget.setAttribute('aria-expanded', String(!keys.hidden));
  });

  document.getElementById('save')?.addEventListener('click', () => {
    const quoted = text => /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    const rows = [...said].map(([image, { word, at }]) => `${image},${quoted(word)},${at}\n`);
    const link = document.createElement('a');
    link.href = URL.createObjectURL(new Blob(['image,label,said_at\n', ...rows], { type: 'text/csv' }));
    link.download = `labels-${by.value.replace(/[^\w-]+/g, '-') || 'me'}.csv`;
    link.click();
    tell(`${said.size} labels are in ${link.download}: flywheel samples import ${link.download} --by '${by.value}'`);
  });

  addEventListener('pagehide', send);
  tiles.forEach(show);
  if (hub) sendAfter(0);
  go(Math.max(0, tiles.findIndex(tile => !isDecided(tile))), false);
  tell('');
})();
