/* Live sections, shorter addresses, and colours in Flower's own list. Every page works without this script. */
(function () {
    "use strict";

    // A section with `data-refresh` is replaced that often, in seconds, unless the focus is in it.
    function refresh(section) {
        if (document.hidden || section.contains(document.activeElement)) {
            return;
        }
        fetch(window.location.href, {credentials: "same-origin"}).then(function (answer) {
            return answer.ok ? answer.text() : Promise.reject(new Error(answer.status));
        }).then(function (text) {
            var fresh = new DOMParser().parseFromString(text, "text/html").getElementById(section.id);
            if (fresh && !section.contains(document.activeElement)) {
                section.replaceChildren.apply(section, Array.from(fresh.childNodes));
            }
            section.classList.remove("pages-stale");
        }).catch(function () {
            section.classList.add("pages-stale");
        });
    }

    document.querySelectorAll("[data-refresh]").forEach(function (section) {
        window.setInterval(refresh, 1000 * Number(section.getAttribute("data-refresh")), section);
    });

    // Empty filters are left out of the address, which people send to colleagues.
    document.querySelectorAll("form[method=get]").forEach(function (form) {
        form.addEventListener("formdata", function (event) {
            Array.from(event.formData.entries()).forEach(function (entry) {
                if (entry[1] === "") {
                    event.formData.delete(entry[0]);
                }
            });
        });
    });

    // A colour for the states that Flower's list does not know.
    function colour() {
        document.querySelectorAll("#tasks-table .badge.text-bg-secondary, #task-page .badge.text-bg-secondary").forEach(function (badge) {
            if (/^[A-Z_]+$/.test(badge.textContent)) {
                badge.classList.add("state-" + badge.textContent.toLowerCase().replace(/_/g, "-"));
            }
        });
    }

    // The button of the state that is searched for looks pressed, also the buttons that are ours.
    function press() {
        var search = document.querySelector(".tasks-page input[type=search]"),
            found = /(?:^|\s)state:([A-Z_]+)(?:\s|$)/i.exec(search ? search.value : ""),
            state = found ? found[1].toUpperCase() : "";
        document.querySelectorAll(".task-state-filter").forEach(function (button) {
            var pressed = button.getAttribute("data-task-state") === state;
            button.classList.toggle("active", pressed);
            button.setAttribute("aria-pressed", String(pressed));
        });
    }
    colour();
    if (window.jQuery && document.getElementById("tasks-table")) {
        window.jQuery("#tasks-table").on("draw.dt", function () {
            colour();
            press();
        });
    }
}());
