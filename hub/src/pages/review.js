// The review grid. As a file, the page keeps decisions in the browser, by image, until they are saved as a table. At a hub they go there as they
// are made; what it has not taken yet is kept in the browser.
'use strict';
(() => {
  const grid = document.getElementById('grid');
  if (!grid) return;
  const hub = grid.dataset.post;
  const KEPT = hub ? 'flywheel-unsent' : 'flywheel-review';
  const SEND_AFTER = 700, AGAIN_AFTER = 5000; // milliseconds
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
  // What was decided here, by image: what the page was made with holds where there is nothing. Of a hub's page, what it has not taken.
  const said = new Map(Object.entries(read(KEPT, {})));
  const unsent = new Map(hub ? said : []);
  const undo = [];
  const started = Date.now();
  let here = 0, decided = 0;

  let sending = 0;

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
    tile.classList.toggle('corrected', word !== undefined && word !== tile.dataset.guess);
    tile.setAttribute('aria-label', `${tile.dataset.guess}${text ? ', decided: ' + text : ''}`);
  }

  function tell(what) {
    const left = tiles.filter(tile => !isDecided(tile)).length;
    const minutes = (Date.now() - started) / 60000;
    const speed = decided > 4 ? `, ${Math.round(decided / minutes)} a minute` : '';
    const waiting = unsent.size ? ` ${unsent.size} labels are still to be sent.` : '';
    progress.textContent = `${what ? what + '. ' : ''}${left} of ${tiles.length} images wait${speed}.${waiting}`;
  }

  // Keeps a word about some images; none takes back what was said.
  function say(images, word) {
    const at = new Date().toISOString();
    for (const image of images) {
      if (word === undefined && !hub) said.delete(image);
      else said.set(image, { word, at });
      if (hub) unsent.set(image, said.get(image));
    }
    keep(KEPT, Object.fromEntries(hub ? unsent : said));
    if (hub) sendAfter(SEND_AFTER);
  }

  function sendAfter(time) {
    clearTimeout(sending);
    sending = setTimeout(send, time);
  }

  // Sends all that a hub has not taken; what is said meanwhile goes the next time.
  async function send() {
    const batch = [...unsent];
    if (!batch.length) return;
    const body = JSON.stringify(batch.map(([image, { word }]) => ({ image, said: toSaid(word) })));
    const answer = await fetch(hub, { method: 'POST', headers: { 'content-type': 'application/json' }, body, keepalive: body.length < 60000 })
      .catch(() => undefined);
    if (answer?.ok) {
      batch.forEach(([image, sent]) => unsent.get(image) === sent && unsent.delete(image));
      keep(KEPT, Object.fromEntries(unsent));
      tell('');
    } else if (answer?.status === 401) {
      tell('Signed out: your labels are kept here until you sign in again');
    } else if (answer && answer.status < 500 && answer.status !== 429) {
      tell(`The hub does not take them: ${await answer.text()}`);
    } else {
      tell('The hub cannot be reached, and is tried again');
      sendAfter(AGAIN_AFTER);
    }
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
    Enter: () => decide(tiles[here].dataset.guess), ' ': () => decide(tiles[here].dataset.guess),
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

  dialog.addEventListener('close', () => {
    if (dialog.returnValue && labels.includes(field.value)) decide(field.value);
    else tiles[here].focus();
    dialog.returnValue = '';
  });

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
  if (unsent.size) sendAfter(0);
  go(Math.max(0, tiles.findIndex(tile => !isDecided(tile))), false);
  tell('');
})();
