/** Preact and htm, as all other modules take them. */
import { Component, Fragment, createContext, h, render } from "./preact.mjs";
import htm from "./htm.mjs";

export { useCallback, useContext, useEffect, useLayoutEffect, useMemo, useRef, useState } from "./preact-hooks.mjs";
export { Component, Fragment, createContext, render };
export const html = htm.bind(h);
