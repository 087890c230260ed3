"""A page in headless Chromium, driven through chromedriver by the WebDriver protocol: what report.sh and
keying.sh share. HOME_FOLDER names a folder for the browser's profile, downloads and log."""
import atexit, csv, json, os, re, subprocess, sys, time, urllib.request

home = os.environ["HOME_FOLDER"]
downloads = os.path.join(home, "downloads")
ENTER, ESCAPE, UP, DOWN, ALL = "\ue007", "\ue00c", "\ue013", "\ue015", "\ue009a\ue009"
failures = []


def check(name, good, detail=""):
    print(("ok " if good else "not ok ") + name, flush=True)
    if not good:
        failures.append(name)
        print(name, detail, file=sys.stderr)


def start_driver():
    """Returns the port on which chromedriver listens; it ends with this program."""
    log_path = os.path.join(home, "driver.log")
    driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=open(log_path, "w"),
                              stderr=subprocess.STDOUT)
    atexit.register(lambda: (driver.terminate(), driver.wait()))
    for _ in range(100):
        found = re.search(r"started successfully on port (\d+)", open(log_path).read())
        if found:
            return found.group(1)
        time.sleep(0.1)
    check("browser_started", False, open(log_path).read())
    sys.exit(1)


def call(method, path, body=None):
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, method=method,
                                     headers={"Content-Type": "application/json"})
    return json.load(urllib.request.urlopen(request, timeout=60))["value"]


os.makedirs(downloads, exist_ok=True)
port = start_driver()
arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
             "--disable-background-networking", "--disable-component-update", "--disable-sync",
             f"--user-data-dir={home}/profile", "--window-size=1280,1600"]
options = {"args": arguments, "prefs": {"download.default_directory": downloads}}
session = call("POST", "/session", {"capabilities": {"alwaysMatch": {
    "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}}})
at = "/session/" + session["sessionId"]
atexit.register(call, "DELETE", at)


def browser(command, **parameters):
    call("POST", at + "/goog/cdp/execute", {"cmd": command, "params": parameters})


browser("Browser.setDownloadBehavior", behavior="allow", downloadPath=downloads)


def go(path):
    call("POST", at + "/url", {"url": f"file://{path}"})


def run(script, *values):
    return call("POST", at + "/execute/sync", {"script": script, "args": list(values)})


def element(selector):
    found = call("POST", at + "/element", {"using": "css selector", "value": selector})
    return next(iter(found.values()))


def keys(selector, text):
    call("POST", f"{at}/element/{element(selector)}/value", {"text": text})


def type_here(text):
    focused = next(iter(call("GET", at + "/element/active").values()))
    call("POST", f"{at}/element/{focused}/value", {"text": text})


def click(selector):
    run("document.querySelector(arguments[0]).scrollIntoView({block:'center'})", selector)
    call("POST", f"{at}/element/{element(selector)}/click", {})


def log(kind):
    return call("POST", at + "/se/log", {"type": kind})


def foreign_requests():
    """What was asked for elsewhere. Chromium's own pages, the new tab's for one, are not the page's doing."""
    asked = [m["params"]["request"]["url"] for m in
             (json.loads(entry["message"])["message"] for entry in log("performance"))
             if m["method"] == "Network.requestWillBeSent"]
    return [u[:80] for u in asked if not u.startswith(("file:", "data:", "blob:", "chrome"))]


def saved(name):
    """The rows of a downloaded table, or None."""
    path = os.path.join(downloads, name)
    for _ in range(100):
        if os.path.exists(path):
            time.sleep(0.2)
            return list(csv.DictReader(open(path, newline="")))
        time.sleep(0.1)
    return None
