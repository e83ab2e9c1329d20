// SPDX-License-Identifier: Apache-2.0
/*global angular, gettext, interpolate, Terminal */

/**
 * The terminal in the page of a server's serial console.
 *
 * This file replaces Horizon's of the same name: the page loads it by this path, and
 * expects this module and this directive. Unlike Horizon's, it
 *
 * - reports the size of the terminal to a server that asks for it, at once and after
 *   each change;
 * - sends and receives UTF-8, also if a frame ends within a character.
 */
(function () {
  'use strict';

  // What xterm answers to, and how: the size in rows and columns.
  const SIZE_REQUEST = '\u001b[18t';
  const sizeReport = (term) => `\u001b[8;${term.rows};${term.cols}t`;

  const STATES = [
    gettext('Connecting'),
    gettext('Open'),
    gettext('Closing'),
    gettext('Closed')
  ];
  // Pixels of the window, beside those of the terminal.
  const MARGIN = { width: 30, height: 60 };

  angular.module('serialConsoleApp', []).directive('serialConsole', serialConsole);

  function serialConsole() {
    return {
      restrict: 'E',
      template: '<div id="terminalNode"></div><br><span id="status"></span>',
      link: function (scope, element, attrs) {
        const node = element[0].querySelector('#terminalNode');
        const status = element[0].querySelector('#status');
        const term = new Terminal();
        term.open(node);

        const socket = new WebSocket(
          scope.$eval(attrs.connection), scope.$eval(attrs.protocols));
        socket.binaryType = 'arraybuffer';
        const encoder = new TextEncoder();
        const send = (text) => {
          if (socket.readyState === WebSocket.OPEN) {
            socket.send(encoder.encode(text));
          }
        };

        const showStatus = () => {
          status.textContent = interpolate(
            gettext('Status: %s'), [STATES[socket.readyState]]);
        };
        socket.addEventListener('open', () => {
          showStatus();
          // Makes a login program print its prompt again.
          send('\r');
        });
        socket.addEventListener('error', showStatus);
        socket.addEventListener('close', showStatus);
        showStatus();

        // A terminal that nobody asked would type its size into the server.
        let asked = false;
        const reportSize = () => {
          if (asked) {
            send(sizeReport(term));
          }
        };
        const asksForSize = finder(SIZE_REQUEST);
        const decoder = new TextDecoder();
        socket.addEventListener('message', (event) => {
          const text = typeof event.data === 'string'
            ? event.data
            : decoder.decode(event.data, { stream: true });
          term.write(text);
          if (asksForSize(text)) {
            asked = true;
            reportSize();
          }
        });
        term.on('data', send);

        const fit = () => {
          const size = fitting(term);
          if (size.cols !== term.cols || size.rows !== term.rows) {
            term.resize(size.cols, size.rows);
            reportSize();
          }
          // For style sheets and tests, as in Horizon's script.
          node.setAttribute('termCols', term.cols);
          node.setAttribute('termRows', term.rows);
        };
        window.addEventListener('resize', fit);
        fit();

        scope.$on('$destroy', () => {
          window.removeEventListener('resize', fit);
          socket.close();
        });
      }
    };
  }

  /**
   * Return a function that tells whether a text of a stream completes a sequence,
   * which may have begun in earlier ones.
   */
  function finder(sequence) {
    let seen = '';
    return (text) => {
      seen += text;
      const found = seen.includes(sequence);
      seen = seen.slice(found ? seen.lastIndexOf(sequence) + sequence.length : 0)
        .slice(1 - sequence.length);
      return found;
    };
  }

  /** Return the rows and columns that the window has room for. */
  function fitting(term) {
    const shown = term.element;
    const room = (pixels, margin, cell) =>
      Math.max(1, Math.floor((pixels - margin) / cell));
    if (!shown.clientWidth || !shown.clientHeight) {
      // Not shown yet: it is in a tab that is hidden.
      return { cols: term.cols, rows: term.rows };
    }
    return {
      cols: room(window.innerWidth, MARGIN.width, shown.clientWidth / term.cols),
      rows: room(window.innerHeight, MARGIN.height, shown.clientHeight / term.rows)
    };
  }
}());
