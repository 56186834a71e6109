// Before the first element of the page connects: the bell shows the tasks that the address names.
import { store } from "./api.js";
import * as query from "./query.js";

store.setOwner(query.owner(location.search));
